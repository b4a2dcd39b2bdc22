"""Charts as SVG texts that need nothing else: readable light and dark, titled and described for those who listen."""

from varifocal.charts.bars import Part as Part
from varifocal.charts.bars import Row as Row
from varifocal.charts.bars import bars as bars
from varifocal.charts.heat import heat_map as heat_map
from varifocal.charts.plot import Area as Area
from varifocal.charts.plot import Axis as Axis
from varifocal.charts.plot import Dots as Dots
from varifocal.charts.plot import Line as Line
from varifocal.charts.plot import Mark as Mark
from varifocal.charts.plot import Steps as Steps
from varifocal.charts.plot import plot as plot
from varifocal.charts.svg import DARK_STYLE as DARK_STYLE
from varifocal.charts.svg import STYLE as STYLE
