"""Every word of the page, in English and Chinese. `say(key, language)` is the only way to a word.

Sentences of errors and names of phases are in studio.messages, names of models, presets and camera moves in configs/.
"""

from studio.ui.strings_form import FORM_STRINGS
from studio.ui.strings_result import RESULT_STRINGS
from studio.ui.strings_sound import SOUND_STRINGS

LANGUAGES = {"en": "English", "zh": "中文"}

OTHERS = FORM_STRINGS | RESULT_STRINGS | SOUND_STRINGS
STRINGS: dict[str, tuple[str, str]] = OTHERS | {
    "app.title": ("Step-Video Studio", "Step-Video Studio"),
    "app.theme": ("Light or dark", "浅色或深色"),
    "app.lost": (
        "The program does not answer: it was closed, or the connection is gone. This page waits for it.",
        "程序没有响应：它已关闭，或连接中断。本页面会等待其恢复。",
    ),
    "tab.create": ("Create", "创作"),
    "tab.gallery": ("Gallery", "作品"),
    "tab.evaluate": ("Evaluate", "评测"),
    "tab.blind": ("Blind test", "盲测"),
    "language": ("Language", "语言"),
    # the form
    "model": ("Model", "模型"),
    "model.missing": ("not installed", "未安装"),
    "model.broken": ("its files cannot be used", "文件无法使用"),
    "model.text_alone": ("from text alone", "只用文字生成"),
    "model.lost": (
        "{model} belongs to this program, but its files are not in this copy of it.",
        "{model} 属于本程序，但这份拷贝中没有它的文件。",
    ),
    "model.get": ("{model} is not on this machine. Get it with", "{model} 尚未安装，下载命令："),
    "model.unverified": (
        "{summary}. Not yet run with its public weights by the makers of this program.",
        "{summary}。本程序的作者尚未用其公开权重运行过。",
    ),
    "prompt": ("Prompt", "提示词"),
    "prompt.placeholder": (
        "Subject, action, surroundings, camera, style. English or 中文.\nA girl in a red coat turns and smiles, snow is falling, film look.",
        "主体、动作、环境、运镜、风格，中英文均可。\n穿红色大衣的女孩转身微笑，雪花飘落，电影质感。",
    ),
    "prompt.placeholder.small": (
        "A shape and how it moves, English or 中文.\nA red circle moves to the right.",
        "一个彩色图形及其运动，中英文均可。\n红色的圆形向右移动。",
    ),
    "image": ("First image", "首帧图片"),
    "image.drop": ("Drop a picture, paste it, or click to choose", "拖入图片、粘贴，或点击选择"),
    "upload.failed": (
        "The file did not arrive. It may have {mb} MB at most.",
        "文件上传失败。大小不得超过 {mb} MB。",
    ),
    "image.optional": ("optional", "可选"),
    "image.unused": ("{model} works from text alone.", "{model} 只用文字生成视频。"),
    "image.whole": ("Used whole, {width} × {height}", "整张使用，{width} × {height}"),
    "image.cropped": (
        "{width} × {height}; the bright part is used, {percent}% is cut off",
        "{width} × {height}；使用明亮部分，裁去 {percent}%",
    ),
    "image.remove": ("Remove", "移除"),
    "image.alt": ("First image with the part that is used", "首帧图片与使用区域"),
    "camera": ("Camera move", "运镜"),
    "camera.none": ("None", "无"),
    "camera.sent": ("The model receives {phrase}: {gloss}", "模型收到“{phrase}”"),
    "motion": ("Motion score", "运动强度"),
    "motion.info": (
        "Higher moves more; 5 to 10 suit camera moves best. From 5 to 10 the paper's dynamic degree rises from 36.6 to "
        "48.8, and its subject consistency falls from 96.0 to 95.6.",
        "数值越高动作越大；配合运镜时 5 到 10 最好。论文中从 5 到 10，动态程度由 36.6 升至 48.8，"
        "主体一致性由 96.0 降至 95.6。",
    ),
    "motion.none": ("{model} has no motion score.", "{model} 没有运动强度。"),
    "motion.needs_image": ("Only used with a first image.", "仅在使用首帧图片时有效。"),
    "motion.shown": (
        "One picture, the camera moving left, under each score: made by the built-in nano; big models differ.",
        "同一张图片、镜头左移，在各强度下的结果：由内置的 nano 生成，大模型的效果不同。",
    ),
    "motion.steady": ("Steady", "平稳"),
    "motion.default": ("Default", "默认"),
    "motion.lively": ("Lively", "活泼"),
    "motion.wild": ("Wild", "剧烈"),
    "preset": ("Preset", "预设"),
    "drawer": ("More settings", "更多设置"),
    "drawer.search": ("Find a setting: seed, orbit, --cfg-scale", "查找设置：种子、环绕、--cfg-scale"),
    "drawer.none": ("No setting is called that.", "没有这样的设置。"),
    "drawer.changed": ("Changed: {count}", "已更改 {count} 项"),
    "drawer.value": ("{label}: {value}", "{label}：{value}"),
    "drawer.reset": ("Reset {label}", "恢复{label}"),
    "drawer.reset_all": ("Reset all", "全部恢复"),
    "steps": ("Infer steps", "推理步数"),
    "cfg": ("CFG scale", "CFG 强度"),
    "shift": ("Time shift", "时间偏移"),
    "speed": ("Speed", "速度"),
    "speed.exact": ("Exact", "精确"),
    "speed.fast": ("Fast", "快速"),
    "speed.calibrated": ("Fast (calibrated)", "快速（已校准）"),
    "speed.draft": ("Draft (preview)", "草稿（预览）"),
    "speed.time": ("{name} · about {time}", "{name} · 约 {time}"),
    "speed.time_short": ("{name} · {seconds} s in ~{time}", "{name} · {seconds} 秒约需 {time}"),
    "speed.info": (
        "Exact is the official sampler. Fast computes less, draft least: a preview. A time shift below 13 moves exact "
        "steps only.",
        "精确即官方采样器；快速计算量较少；草稿最少，仅供预览。小于 13 的时间偏移只影响精确。",
    ),
    "guidance": ("Guidance over time", "引导随时间"),
    "guidance.constant": ("Constant", "恒定"),
    "guidance.falling": ("Falling", "递减"),
    "length": ("Length", "时长"),
    "length.choice": ("{seconds} s · {frames} frames", "{seconds} 秒 · {frames} 帧"),
    "length.still": ("Still picture · 1 frame", "静止图片 · 1 帧"),
    "size": ("Shape", "画面形状"),
    "size.landscape": ("Landscape\n{width} × {height}", "横向\n{width} × {height}"),
    "size.portrait": ("Portrait\n{width} × {height}", "纵向\n{width} × {height}"),
    "size.square": ("Square\n{width} × {height}", "方形\n{width} × {height}"),
    "height": ("Height", "高度"),
    "width": ("Width", "宽度"),
    "seed": ("Seed", "随机种子"),
    "seed.placeholder": ("empty: random", "留空为随机"),
    "negative": ("Negative prompt", "反向提示词"),
    "negative.placeholder": ("empty: nothing is avoided", "留空则不回避任何内容"),
    "negative.info": ("Exactly this text is used.", "实际使用的就是这段文字。"),
    "restore": ("Settings from a file", "从文件恢复设置"),
    "restore.drop": (
        "Drop an earlier mp4, png or json anywhere on this page, or click",
        "把以前的 mp4、png 或 json 拖到页面任意处，或点击选择",
    ),
    "restore.differs": ("That file differs from the form: {count}", "该文件与表单的不同之处：{count}"),
    "restore.apply": ("Take the file's", "采用文件中的设置"),
    "restore.leave": ("Keep the form", "保留表单"),
    "restore.done": ("The settings of that file are in the form.", "文件中的设置已填入表单。"),
    "restore.image": (
        "The settings of that file are in the form. Its video began from a picture: add it, too (NAME.first.png).",
        "文件中的设置已填入表单。该视频使用了首帧图片，请一并添加（NAME.first.png）。",
    ),
    # what the model receives
    "receives": ("What the model receives", "模型收到的内容"),
    "receives.positive": ("Prompt", "提示词"),
    "receives.negative": ("Negative prompt", "反向提示词"),
    "receives.nothing": ("nothing", "无"),
    "receives.step_llm": ("Step LLM", "Step LLM"),
    "receives.clip": ("CLIP", "CLIP"),
    "receives.cut": (
        "{encoder} stops here, tokens not read: {cut}",
        "{encoder} 读到此处，未读词元：{cut}",
    ),
    "receives.tokens": ("{used} / {limit}", "{used} / {limit}"),
    "receives.meters": ("Tokens", "词元"),
    "receives.unread": ("{cut} unread", "{cut} 个未读"),
    # the plan
    "plan.fits": ("Fits: {vram} of VRAM, {ram} of RAM", "可以运行：显存 {vram}，内存 {ram}"),
    "plan.fits_ram": ("Fits: {ram} of RAM", "可以运行：内存 {ram}"),
    "plan.each": ("Each of {count} devices: {fits}", "{count} 个设备各自：{fits}"),
    "plan.time": ("about {time}", "约 {time}"),
    "plan.long": ("A shorter video or fewer steps take less.", "缩短时长或减少步数可更快完成。"),
    "plan.misfit": ("Will not fit: needs {vram} of VRAM and {ram} of RAM.", "无法运行：需要显存 {vram}、内存 {ram}。"),
    "plan.shorten": ("Use {seconds} s, which fits", "改用 {seconds} 秒，可以运行"),
    "generate": ("Generate", "生成"),
    "stop": ("Stop", "停止"),
    # the stage
    "stage.empty": ("Your video appears here", "视频将显示在这里"),
    "stage.examples": (
        "Not sure where to start? An example below fills in the form.",
        "不知道从哪里开始？点击下方示例即可填好表单。",
    ),
    "examples": ("Examples", "示例"),
    "examples.turbo": ("Turbo", "Turbo 加速"),
    "examples.camera": ("Camera: {move}", "运镜：{move}"),
    "examples.picture": ("Picture, motion {score}", "图片，强度 {score}"),
    "example.1": (
        "A small boat drifts across a misty lake at sunrise, ripples spread, the camera pushes in slowly, cinematic.",
        "日出时分，一叶小舟在薄雾弥漫的湖面上漂过，水面泛起涟漪，镜头缓慢推进，电影质感。",
    ),
    "example.2": (
        "An orange cat jumps onto a windowsill, sunlight on its fur, it looks at the rain outside, realistic.",
        "一只橘猫跳上窗台，阳光洒在它的毛发上，它望着窗外的雨，写实风格。",
    ),
    "example.3": (
        "Lanterns rise over an old town at night, people look up and smile, fixed camera, documentary.",
        "夜晚，古镇上空孔明灯缓缓升起，人们抬头微笑，固定镜头，纪录片风格。",
    ),
    "stage.preview": ("Preview of the unfinished video", "未完成视频的预览"),
    "stage.elapsed": ("{time} so far", "已用 {time}"),
    "stage.left": ("about {time} left", "剩余约 {time}"),
    "stage.took": ("made in {time}", "用时 {time}"),
    "stage.waiting": ("earlier in the queue: {count}", "前面还有 {count} 个视频"),
    "stage.next": ("Starting", "即将开始"),
    "stage.stopping": ("Stopping", "正在停止"),
    "stage.seed": ("Seed {seed}", "种子 {seed}"),
    "stage.resume_hint": ("Resume goes on from its last saved step.", "点击“继续”将从最后保存的步骤接着运行。"),
    "state.queued": ("Queued", "排队中"),
    "state.running": ("Running", "运行中"),
    "state.finished": ("Finished", "已完成"),
    "state.failed": ("Failed", "失败"),
    "state.cancelled": ("Stopped", "已停止"),
    "state.interrupted": ("Interrupted", "已中断"),
    "again": ("Run again", "再次生成"),
    "again.seed": ("New seed", "换个种子"),
    "vary.seeds": ("4 seeds", "4 个种子"),
    "vary.motion": ("Motion 2 · 5 · 10 · 20", "强度 2 · 5 · 10 · 20"),
    "vary.added": ("{count} variations are in the queue.", "已将 {count} 个变体加入队列。"),
    "reuse": ("Reuse settings", "使用此设置"),
    "download": ("Download", "下载"),
    "resume": ("Resume", "继续"),
    "recent": ("Latest", "最近"),
    "stage.done": ("Your video is done: {prompt}", "视频已完成：{prompt}"),
    "stage.stop_soon": ("Stopping in {seconds} s", "{seconds} 秒后停止"),
    "stage.finish_now": ("Finish now", "立即完成"),
    "stage.sharp": ("Sharp preview", "清晰预览"),
    "stage.rough": ("Rough preview", "粗略预览"),
    "stage.decode": ("Make a video of what is there", "用已有结果生成视频"),
    "stage.whole": ("Do the steps that are left", "完成剩余步骤"),
    # the queue
    "queue": ("Queue", "队列"),
    "queue.until": ("until about {time}", "约 {time} 全部完成"),
    "queue.held": ("paused", "已暂停"),
    "queue.hold": ("Pause", "暂停"),
    "queue.go_on": ("Continue", "继续"),
    "queue.stop_all": ("Stop all", "全部停止"),
    "queue.stop_all_sure": ("Really stop all?", "确定全部停止？"),
    "queue.at": ("about {time}", "约 {time}"),
    "queue.more": ("and {count} more", "另有 {count} 个"),
    "queue.move": (
        "Number {place} of {count}: drag it, or move it with the arrow keys",
        "第 {place} 个，共 {count} 个：可拖动，或用方向键移动",
    ),
    "queue.edit": ("Edit in the form", "在表单中修改"),
    "queue.copy": ("Once more with a new seed", "换种子再加一个"),
    "queue.copy_many": ("{count} more, each with a new seed", "再加 {count} 个，各用新种子"),
    "queue.pause": ("Pause", "暂停"),
    "queue.continue": ("Continue", "继续"),
    "queue.skip": ("Skip: let the others go first", "跳过：让其他任务先运行"),
    "queue.remove": ("Remove", "移除"),
    "queue.removed": ("Removed: {prompt}", "已移除：{prompt}"),
    "queue.undo": ("Undo", "撤销"),
    "queue.in_form": ("in the form", "正在修改"),
    "queue.editing": ("The form holds a job of the queue: {prompt}", "表单中是队列里的任务：{prompt}"),
    "queue.put_back": ("Put back into the queue", "放回队列"),
    "queue.leave": ("Leave it as it was", "保持原样"),
    "queue.added": ("Added, number {place} in the queue.", "已加入队列，排第 {place} 个。"),
    "queue.added_at": (
        "Added, number {place} in the queue, done at about {time}.",
        "已加入队列，排第 {place} 个，约 {time} 完成。",
    ),
    "state.paused": ("Paused", "已暂停"),
    # the player of a finished video
    "player.play": ("Play or pause (K)", "播放或暂停（K）"),
    "player.back": ("One frame back (J)", "后退一帧（J）"),
    "player.next": ("One frame on (L)", "前进一帧（L）"),
    "player.loop": ("Loop", "循环播放"),
    "player.full": ("Full screen", "全屏"),
    "player.speed": ("Speed", "播放速度"),
    "player.frame": ("Frame", "帧"),
    "player.use_frame": ("Use this frame", "使用此帧"),
    # the gallery
    "gallery.empty": (
        "Nothing here yet. Videos you make stay here, also after a restart.",
        "这里还没有内容。生成的视频会保存在这里，重启后依然可见。",
    ),
    "gallery.search": ("Search prompt, model or seed", "搜索提示词、模型或种子"),
    "gallery.nothing": ("No video says all of these words.", "没有符合全部词语的视频。"),
    "gallery.pick": ("Choose a video to play it and see how it was made.", "选择一个视频即可播放并查看其设置。"),
    "gallery.all": ("All", "全部"),
    "gallery.finished": ("Finished", "已完成"),
    "gallery.favourites": ("Favourites", "收藏"),
    "gallery.unfinished": ("Failed or stopped", "失败或停止"),
    "gallery.filter": ("Show", "显示"),
    "gallery.sort": ("Order", "排序"),
    "sort.newest": ("Newest first", "最新在前"),
    "sort.oldest": ("Oldest first", "最早在前"),
    "sort.longest": ("Longest first", "最长在前"),
    "gallery.favourite": ("Favourite", "收藏"),
    "gallery.unstar": ("No favourite", "取消收藏"),
    "gallery.tags": ("Tags, with commas between", "标签，用逗号分隔"),
    "gallery.tag": ("Add tags", "添加标签"),
    "gallery.choose": ("Choose: {prompt}", "选择：{prompt}"),
    "gallery.chosen": ("Chosen", "已选"),
    "gallery.clear": ("Choose none", "取消选择"),
    "gallery.several": ("{count} videos", "{count} 个视频"),
    "gallery.remake": ("Delete and remake", "删除并重做"),
    "gallery.folder": ("Open folder", "打开文件夹"),
    "made.weights": ("Weights", "权重"),
    "made.attention": ("Attention", "注意力"),
    "made.command": ("As a command", "命令行"),
    "made.copy": ("Copy", "复制"),
    "gallery.newer": ("Newer", "较新"),
    "gallery.older": ("Older", "较早"),
    "gallery.place": ("{first} to {last} of {count}", "第 {first} 至 {last} 个，共 {count} 个"),
    "gallery.use": ("Use again", "再次使用"),
    "gallery.delete": ("Delete", "删除"),
    "gallery.delete_sure": ("Delete for good", "确认删除"),
    "gallery.keep": ("Keep", "保留"),
    "gallery.gone": ("This video is no longer here.", "该视频已不存在。"),
    "gallery.file_gone": ("Its file is no longer where it was written.", "文件已不在原来的位置。"),
    # the status bar
    "status.vram": ("VRAM", "显存"),
    "status.ram": ("RAM", "内存"),
    "status.of": ("{used} of {total}", "{used} / {total}"),
    "status.idle": ("Idle", "空闲"),
    "status.running": ("{count} running", "{count} 个运行中"),
    "status.waiting": ("{count} waiting", "{count} 个排队"),
    "worker.pace": ("{seconds} s per step", "每步 {seconds} 秒"),
    "worker.since": ("since {time}", "{time} 开始"),
    # time and size
    "time.seconds": ("{seconds} s", "{seconds} 秒"),
    "time.minutes": ("{minutes} min", "{minutes} 分钟"),
    "time.minutes_seconds": ("{minutes} min {seconds} s", "{minutes} 分 {seconds} 秒"),
    "time.hours": ("{hours} h {minutes} min", "{hours} 小时 {minutes} 分"),
    "size.gb": ("{gb} GB", "{gb} GB"),
    # the login
    "login": ("Log in", "登录"),
    "login.user": ("Name", "用户名"),
    "login.password": ("Password", "密码"),
    "login.hint": (
        "The password is in the terminal where the program was started.",
        "密码显示在启动本程序的终端里。",
    ),
    "login.wrong": ("Wrong name or password.", "用户名或密码错误。"),
    "login.wait": ("Wait {seconds} s before the next try.", "请等待 {seconds} 秒后再试。"),
    "logout": ("Log out", "退出登录"),
    # at the command line, when the page starts
    "serve.password": (
        "Login for the page: user {user}, password {password}",
        "页面登录：用户名 {user}，密码 {password}",
    ),
    "serve.local": ("The page: {url}", "页面地址：{url}"),
    "serve.phone": ("For a phone in the same network: {url}", "同一网络中的手机请打开：{url}"),
    "serve.public": ("Public link, for a week at most: {url}", "公开链接（最长一周）：{url}"),
    "serve.share_failed": (
        "No public link could be made ({reason}). The page itself runs on.",
        "无法创建公开链接（{reason}），本地页面仍在运行。",
    ),
}

# Short names under the icons of the camera moves, by key of configs/camera_moves.yaml.
MOVES: dict[str, tuple[str, str]] = {
    "fixed": ("Fixed", "固定"),
    "up": ("Up", "上移"),
    "down": ("Down", "下移"),
    "left": ("Left", "左移"),
    "right": ("Right", "右移"),
    "tilt-up": ("Tilt up", "上摇"),
    "tilt-down": ("Tilt down", "下摇"),
    "pan-left": ("Pan left", "左摇"),
    "pan-right": ("Pan right", "右摇"),
    "zoom-in": ("Zoom in", "放大"),
    "zoom-out": ("Zoom out", "缩小"),
    "push-in": ("Push in", "推进"),
    "pull-out": ("Pull out", "拉远"),
    "rotate": ("Roll", "旋转"),
    "follow": ("Follow", "跟随"),
    "orbit": ("Orbit", "环绕"),
    "focus": ("Focus", "焦点"),
}


def say(key: str, language: str, **values: object) -> str:
    """The words of `key` in "en" or "zh"; KeyError for a key that is not there."""
    return STRINGS[key][language == "zh"].format(**values)


def say_move(key: str, language: str) -> str:
    """The short name of a camera move; "" is no move."""
    return MOVES[key][language == "zh"] if key else say("camera.none", language)


def say_time(seconds: float, language: str) -> str:
    """A duration as people say it: exact below ten minutes, then coarser."""
    seconds = max(round(seconds), 0)
    minutes, rest = divmod(seconds, 60)
    if minutes == 0:
        return say("time.seconds", language, seconds=rest)
    if minutes < 10 and rest:
        return say("time.minutes_seconds", language, minutes=minutes, seconds=rest)
    if minutes < 60:
        return say("time.minutes", language, minutes=minutes)
    return say("time.hours", language, hours=minutes // 60, minutes=minutes % 60)


def say_gb(gb: float, language: str) -> str:
    """An amount of memory: one decimal below 10 GB."""
    return say("size.gb", language, gb=f"{gb:.1f}" if gb < 10 else f"{gb:.0f}")
