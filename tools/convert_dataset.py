#!/usr/bin/env python
"""Convert another tool's annotations to a COCO file.

    python tools/convert_dataset.py yolo mine/labels --images mine/images --classes data.yaml --output mine/train.json
    python tools/convert_dataset.py voc mine/xml --images mine/images --output mine/train.json
    python tools/convert_dataset.py labelme mine/json --images mine/images --output mine/train.json
    python tools/convert_dataset.py cvat mine/annotations.xml --images mine/images --output mine/train.json
    python tools/convert_dataset.py png mine/masks --images mine/images --classes classes.yaml --output mine/train.json

YOLO holds boxes and polygons, also mixed. A box stays an object without a mask. Exit status 2: it cannot be converted.
"""

import argparse
import json
import sys
from pathlib import Path

from reg_d2.data.convert import FORMATS, convert
from reg_d2.engine import readable_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=sorted(FORMATS))
    parser.add_argument("source", type=Path, help="folder of annotation files; for CVAT the XML file")
    parser.add_argument("--images", type=Path, required=True, help="image folder")
    parser.add_argument("--classes", type=Path, help="data.yaml, one name a line, or YAML of pixel value to name")
    parser.add_argument("--output", type=Path, required=True, help="COCO file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        builder = convert(args.format, args.source, args.images, args.classes)
        content = builder.build()
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content))
    masks = sum(bool(a["segmentation"]) for a in content["annotations"])
    print(f"{len(content['images'])} images, {len(content['annotations'])} objects, {masks} of them with a mask")
    print("classes: " + ", ".join(c["name"] for c in content["categories"]))
    for what, count in builder.skipped.items():
        print(f"left out: {count} {what}")
    for what, count in builder.notes.items():
        print(f"note: {count} {what}")
    print(f"check it: python tools/check_dataset.py {args.output}:{args.images}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
