"""What is asked of a job, as the column `request` has it: one Request, and a wish to decode that outlives a stop.

"hold+decode": stop, because the whole queue is paused, and decode then. Without the stop it is "decode" again.
"""

from studio.queue.job import Request

KEPT = "CASE WHEN request GLOB '*finish' THEN 'finish' WHEN request GLOB '*decode' THEN 'decode' ELSE '' END"
ASKED = "substr(request, 1, instr(request || '+', '+') - 1)"  # without a wish beside it
CANCEL = """
    request = CASE state WHEN 'running' THEN 'cancel' ELSE '' END,
    ended = CASE state WHEN 'running' THEN ended ELSE ? END,
    state = CASE state WHEN 'running' THEN state ELSE 'cancelled' END
"""
# What becomes of a running job that stopped, by what was asked of it; a wish that was withdrawn lets it run again.
STOPPED_AS = f"""
    state = CASE {ASKED} WHEN 'cancel' THEN 'cancelled' WHEN 'pause' THEN 'paused' ELSE 'queued' END,
    ended = CASE {ASKED} WHEN 'cancel' THEN ? END,
    position = CASE {ASKED} WHEN 'skip' THEN max(?, coalesce((SELECT max(position) + 1 FROM jobs WHERE state IN
        ('queued', 'paused')), 0)) ELSE position END,
    request = {KEPT}
"""


def beside_kept(asked: Request) -> str:
    """SQL: that is asked now, and the job's wish to decode is kept."""
    return f"rtrim('{asked}+' || {KEPT}, '+')"
