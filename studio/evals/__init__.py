"""What is good, measured: suites of prompts, scores of clips, reports, blind tests. No torch, no gradio."""
