"""Why a detector's AP is what it is: ranking, calibration, kinds of error, thresholds, the worst pictures."""

from varifocal.diagnose.report import Diagnosis as Diagnosis
from varifocal.diagnose.report import Settings as Settings
from varifocal.diagnose.run import diagnose as diagnose
