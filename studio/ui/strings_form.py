"""Words of the form's first screen and its drawer; strings.py has all others."""

FORM_STRINGS: dict[str, tuple[str, str]] = {
    "app.skip": ("Skip to the prompt", "跳到提示词"),
    "chat.expand": ("Let the language model expand it", "让语言模型扩写"),
    "chat.busy": ("It is writing …", "正在撰写…"),
    "chat.where": ("The prompt goes to {host}, nowhere else.", "提示词只会发送到 {host}。"),
    "chat.use": ("Use this prompt", "使用此提示词"),
    "chat.leave": ("Leave it", "不使用"),
    "check": ("Check this machine", "检查本机"),
    "check.info": (
        "Proves on the GPU what the program relies on, and times it: three minutes at most, no model needed.",
        "在 GPU 上验证本程序所依赖的计算并测速：最多三分钟，无需模型。",
    ),
    "check.offer": (
        "A GPU is here for the first time. A check of at most three minutes shows whether it computes rightly and how "
        "fast, and makes the estimates its own.",
        "首次发现 GPU。检查最多三分钟，可确认其计算是否正确、速度如何，并使时间估计符合本机。",
    ),
    "check.start": ("Check", "检查"),
    "check.again": ("Check again", "重新检查"),
    "check.stop": ("Stop", "停止"),
    "check.later": ("Not now", "暂不"),
    "check.running": ("Checking; jobs of the queue wait.", "正在检查；队列中的任务会等待。"),
    "check.ok": ("ok", "正常"),
    "check.look": ("look", "需处理"),
    "check.skipped": ("–", "未检查"),
    "absent": ("{count} big models: see what fits", "{count} 个大模型：看看哪个适合本机"),
    "absent.one": ("{model}: see whether it fits", "{model}：看看是否适合本机"),
    "absent.here": ("On this machine", "在本机上"),
    "absent.video": ("{seconds} s of {width} × {height}", "{seconds} 秒，{width} × {height}"),
    "absent.disk": (
        "To download: about {need}; free on the disk: {free}.",
        "需下载约 {need}；磁盘可用空间：{free}。",
    ),
    "absent.full": (
        "The disk lacks about {lack}: make room, or start with --model-dir on another one.",
        "磁盘还差约 {lack}：请清理空间，或用 --model-dir 指定其他磁盘。",
    ),
    "absent.source": ("Source", "下载来源"),
    "absent.hf": ("Hugging Face", "Hugging Face（境外）"),
    "absent.modelscope": ("ModelScope", "魔搭 ModelScope"),
    "absent.get": ("Download", "下载"),
    "absent.resume": ("Resume the download", "继续下载"),
    "absent.stop": ("Stop", "停止"),
    "absent.progress": ("{done} of {total}", "{done} / {total}"),
    "absent.begins": ("Asking what is to be fetched", "正在查询文件列表"),
    "absent.stopped": ("Stopped at {done} of {total}.", "已停在 {done} / {total}。"),
    "absent.checks": (
        "Each file is checked by its checksum, then the whole folder; a file that another model has is shared.",
        "每个文件都按校验和检查，最后检查整个文件夹；其他模型已有的文件会共用。",
    ),
    "absent.licence": (
        "The files under hunyuan_clip/ have Tencent's own licence (tencent-hunyuan-community): read it before use.",
        "hunyuan_clip/ 下的文件适用腾讯的许可（tencent-hunyuan-community）：使用前请阅读。",
    ),
}
