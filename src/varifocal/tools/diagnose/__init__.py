"""Why a detector's AP is what it is: ranking, calibration, kinds of error, thresholds, the worst images."""
