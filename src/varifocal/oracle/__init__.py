"""Give a detector the truth, one quantity at a time, and see what AP it buys (VarifocalNet, section 3.1, table 1)."""

from varifocal.oracle.result import OracleRow as OracleRow
from varifocal.oracle.result import OracleStudy as OracleStudy
from varifocal.oracle.study import oracle_study as oracle_study
