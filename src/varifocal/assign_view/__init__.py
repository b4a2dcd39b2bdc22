"""Which points of each picture the assignment gives an object: as numbers and as pictures."""

from varifocal.assign_view.view import AssignView as AssignView
from varifocal.assign_view.view import assign_view as assign_view
from varifocal.assign_view.view import write_view as write_view
