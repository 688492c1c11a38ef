from valence.report import write_report


def test_x(finished_run):
    import time

    t = time.time()
    s = write_report(finished_run)
    print(s["metrics"], finished_run.root, time.time() - t)
