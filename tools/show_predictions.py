#!/usr/bin/env python
"""A picture grid of a data set's images: ground truth beside prediction.

    python tools/show_predictions.py --config-file output/demo/config.yaml --weights output/demo/model_final.pth \\
        --output output/demo/predictions.jpg

The images are those that show most classes, rare ones included; the same each time.
"""

import argparse
import os
import sys

from reg_d2.data.catalog import find_entries, read_catalog
from reg_d2.data.coco import read_coco, to_dataset_dicts
from reg_d2.engine import load_config, readable_errors
from reg_d2.engine.predictor import Predictor, read_image
from reg_d2.visualize import annotated_objects, predicted_objects, prediction_grid, save_picture, select_images


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", help="of the run; default: config.yaml beside the weights")
    parser.add_argument("--weights", required=True, help="checkpoint of tools/train_net.py (.pth)")
    parser.add_argument("--dataset", help="name in the catalogue; default: the first of DATASETS.TEST")
    parser.add_argument("--num", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--score", type=float, default=0.5, help="lowest score shown (default: 0.5)")
    parser.add_argument("--output", required=True, help="the picture, .jpg or .png")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys, e.g. MODEL.DEVICE cpu")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        if args.num < 1:
            raise ValueError(f"--num {args.num}: expected 1 or more")
        config_file = args.config_file or os.path.join(os.path.dirname(args.weights), "config.yaml")
        cfg = load_config(config_file, ["MODEL.WEIGHTS", args.weights, *args.opts])
        if not args.dataset and not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST is empty: name a data set of the catalogue with --dataset")
        name = args.dataset or cfg.DATASETS.TEST[0]
        (entry,) = find_entries(read_catalog(cfg.DATASETS.CATALOG), [name])
        coco = read_coco(entry.json)
        predictor = Predictor(cfg, args.score)
        classes = predictor.classes
        pairs = []
        for record in select_images(to_dataset_dicts(coco, entry.images, classes.names), args.num):
            image = read_image(record["file_name"])
            pairs.append((image, annotated_objects(record), predicted_objects(predictor(image))))
        grid = prediction_grid(
            pairs,
            classes.names,
            title=f"{name}: {os.path.basename(args.weights)}",
            headings=("ground truth", f"prediction, score >= {args.score:g}"),
            box_only=[c for c in classes.names if c not in classes.mask_classes],
        )
        os.makedirs(os.path.dirname(os.path.abspath(args.output)), exist_ok=True)
        save_picture(args.output, grid)
    print(f"{len(pairs)} images of {name}: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
