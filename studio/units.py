"""The one unit that sentences, flags and configs share."""

GB = 2**30  # bytes; "GB" means this in every sentence of this program (speeds in GB/s count 10**9, as vendors do)
