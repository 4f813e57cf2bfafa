"""`highway`: Thai-highway-like scenes from a survey vehicle's front camera, made on demand.

Seven classes (pavilion, pedestrian bridge, information sign, single-arm pole, bus stop, warning sign, concrete
guardrail) with the paper's annotation counts (E9): 3650 boxes in the training split, rho = 30 (E11), and masks for 1200
of them; single-arm poles and bus stops have boxes only. An object without a mask has no `segmentation` key. In the
validation split every object of the five mask classes has its mask, and no class has fewer than 40 objects
(a third of the pictures, where those are fewer than 120).

Everything is drawn: a pinhole camera, small polygon solids painted from far to near, and an id buffer beside the
picture. A mask is the object's visible pixels, a box the tight box of those. Conventions: a sign is its panel, without
posts; a pole is shaft, arm and lamp; a pavilion, bus stop or footbridge is the whole building; a barrier is its whole
visible length. At least 35 % of an object's pixels inside the picture are visible (poles 60 %,
and the lamp), and nothing of a class stands unannotated in a picture.

What was made hard:

- long tail: 50 bus stops beside 1500 poles, and a bus stop shares roof, posts and bench with the pavilion;
- look-alikes that are not annotated: billboards and boards in sign colours; round signs and yellow upright boards;
  utility poles, two-armed lamps, flag and bare masts; closed houses, sheds, stalls with awnings, farm trucks with posts
  and roof; steel W-beams and painted kerbs; road overpasses;
- scale: signs from about 15 to 66 pixels (at 360 rows), bridges and barriers as wide as the picture;
- thin shapes: a pole is 2 to 8 pixels wide and its box hangs on the lamp's far end;
- occlusion by vehicles, trees, bushes, posts and by other objects; objects cut by the picture's edge;
- variation inside a class: shape, proportion, colour, roof kind, mounting, wear, viewing angle, shading;
- light and weather: day, overcast, dusk, night with headlights and lit lamps, haze, fog, rain, wet road, glare;
- lens and sensor: dirt, vignette, defocus, motion blur, noise, contrast, white balance, JPEG;
- camera: horizon, pan, roll, focal length and height differ in every picture; roads bend; 3 % of pictures are empty
  (`empty_share`).

`difficulty` (0..1, default 1) scales the clutter, the share of pictures without clear daylight, and how small signs
and buildings get; the benchmark is 1, `make demo` uses less so that minutes of training show something.

What stays easier than life: flat ground, straight edges, a limited set of symbols, every annotation exact.
"""

from .masks import encode
from .parameters import GENERATOR_VERSION
from .plan import DETECTION_COUNTS, HIGHWAY_CLASSES, SEGMENTATION_COUNTS, imbalance_ratio
from .scene import Scene, render_scene
from .writer import make_highway

__all__ = [
    "DETECTION_COUNTS",
    "GENERATOR_VERSION",
    "HIGHWAY_CLASSES",
    "SEGMENTATION_COUNTS",
    "Scene",
    "encode",
    "imbalance_ratio",
    "make_highway",
    "render_scene",
]
