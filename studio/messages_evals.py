"""Sentences of evaluations and blind tests, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
EVALS_MESSAGES: dict[str, tuple[str, str]] = {
    "suite_unknown": (
        "{file} is no file of prompts (.txt, .csv, .jsonl), no folder of pictures with texts, and none of the suites {known}.",
        "{file} 不是提示词文件（.txt、.csv、.jsonl），也不是带文本的图片文件夹，也不是内置的评测集 {known}。",
    ),
    "suite_count": (
        "{file} holds {count} prompts: give 1 to {limit}. In a folder each picture needs a .txt of its name beside it.",
        "{file} 含有 {count} 条提示词：请给出 1 到 {limit} 条。文件夹中每张图片旁需有同名 .txt。",
    ),
    "suite_row": ("{file}, prompt {row}: {reason}", "{file} 第 {row} 条提示词：{reason}"),
    "suite_line": ("Line {line} cannot be read: {reason}", "无法读取第 {line} 行：{reason}"),
    "recipe_unknown": (
        "There is no recipe {value}: known are {known}. Your own come with --recipes FILE.",
        "没有名为 {value} 的配方：已知 {known}。自定义配方请用 --recipes FILE。",
    ),
    "recipe_twice": (
        "Give at least one recipe, and each once: {value}",
        "请至少给出一个配方，且每个只出现一次：{value}",
    ),
    "task_invalid": ("Prompt {case} with recipe {recipe}: {reason}", "提示词 {case} 与配方 {recipe}：{reason}"),
    "scores_missing": (
        "Scores need OpenCV: pip install opencv-python-headless, or make the clips alone with --no-scores.",
        "评分需要 OpenCV：pip install opencv-python-headless；或用 --no-scores 只生成视频。",
    ),
    "evaluate_quantize": (
        "Here --quantize {value} is part of a recipe: give one with weights: {value}, of configs/recipes.yaml or of --recipes FILE.",
        "此处 --quantize {value} 属于配方：请使用含 weights: {value} 的配方（configs/recipes.yaml 或 --recipes FILE）。",
    ),
    "clip_unusable": (
        "{folder} cannot be used for scores by CLIP: {reason} Give the folder of a CLIPModel of transformers, with config.json, model.safetensors, tokenizer.json and preprocessor_config.json, or leave --clip (clip_dir) out.",
        "{folder} 无法用于 CLIP 评分：{reason} 请给出 transformers 的 CLIPModel 文件夹（含 config.json、model.safetensors、tokenizer.json 和 preprocessor_config.json），或不使用 --clip（clip_dir）。",
    ),
    "evaluation_busy": (
        "{holder} works in {folder} already: wait for it.",
        "{holder} 正在使用 {folder}：请等待其结束。",
    ),
    "evaluation_clip": (
        "{file} cannot be read ({reason}): remove it and give the same command, which makes it again.",
        "无法读取 {file}（{reason}）：请删除它，再执行同一命令，即可重新生成。",
    ),
    "run_unreadable": (
        "{file} is no result of evaluate: {reason}. Give the folder of a run that was made to its end.",
        "{file} 不是 evaluate 的结果：{reason}。请给出已完成的评测文件夹。",
    ),
    "runs_alike": (
        "{value} names the same clips twice: compare two recipes, as FOLDER:RECIPE where a folder has several.",
        "{value} 指向同一组视频：请比较两个配方；若文件夹有多个配方，请写作 FOLDER:RECIPE。",
    ),
    "runs_apart": (
        "{first} and {second} have no prompt and seed in common, so nothing can be compared.",
        "{first} 与 {second} 没有共同的提示词和种子，无法比较。",
    ),
    "votes_unreadable": (
        "{file}, line {line} is no vote on this comparison: {reason}. Give another file with --votes.",
        "{file} 第 {line} 行不是本次比较的投票：{reason}。请用 --votes 指定其他文件。",
    ),
    "vote_unknown": (
        "The vote does not answer what was asked ({criteria}): load the page again.",
        "投票与所提问题（{criteria}）不符：请重新加载页面。",
    ),
    "voter_unknown": (
        "A voter's name has 1 to 40 letters, digits, - or _.",
        "投票用名应为 1 到 40 个字母、数字、- 或 _。",
    ),
    "evaluation_asked": (
        "The evaluation cannot be read: {field} is not what it must be. Load the page again.",
        "无法读取评测请求：{field} 不符合要求。请重新加载页面。",
    ),
    "evaluation_name": (
        "{value} cannot name an evaluation: use 1 to 60 letters, digits, - or _.",
        "{value} 不能作为评测名称：请使用 1 到 60 个字母、数字、- 或 _。",
    ),
    "evaluation_unknown": (
        "There is no evaluation {value} that this page can change.",
        "没有可由本页面更改的评测 {value}。",
    ),
    "evaluation_running": (
        "{name} is being made: wait for it, or stop it; it goes on later where it was.",
        "正在生成 {name}：请等待其完成，或先停止；之后可从原处继续。",
    ),
    "evaluation_file": (
        "{file} is no picture (png, jpg, webp, bmp) and no .txt: give a folder of pictures, each with its text.",
        "{file} 不是图片（png、jpg、webp、bmp），也不是 .txt：请给出图片文件夹，每张图片附同名文本。",
    ),
    "evaluation_files": (
        "An evaluation takes {limit} files from the page: give a larger folder by its path, or to the evaluate command.",
        "一次评测最多从页面接收 {limit} 个文件：更大的文件夹请填写路径，或使用 evaluate 命令。",
    ),
    "blind_unknown": (
        "There is no such blind test: choose the two recipes again.",
        "没有这个盲测：请重新选择两个配方。",
    ),
}
