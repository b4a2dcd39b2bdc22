def make_plots(x):
    pass
