"""Sentences for requests to the page's server and the HTTP API, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
HTTP_MESSAGES: dict[str, tuple[str, str]] = {
    "host_unknown": (
        "The page is not served under the name {host!r}. If that name is meant, start with --allowed-host NAME.",
        "本页面不以主机名 {host!r} 提供服务。如确需使用该名称，请在启动时加上 --allowed-host NAME。",
    ),
    "page_foreign": (
        "This request came from another web page, so it was refused. Open the page itself.",
        "该请求来自其他网页，已被拒绝。请直接打开本页面。",
    ),
    "key_unknown": ("The API key is not known here: use another one.", "API 密钥无效：请更换密钥。"),
    "key_needed": (
        "An API key is needed here: send the header Authorization: Bearer KEY. {program} key new NAME makes one.",
        "此处需要 API 密钥：请发送请求头 Authorization: Bearer KEY。创建密钥：{program} key new 名称",
    ),
    "key_scope": (
        "This API key does not open that: read keys only look, write keys also make, stop and delete videos.",
        "该 API 密钥无权执行此操作：read 密钥只能查看，write 密钥还可生成、停止和删除视频。",
    ),
    "key_rate": (
        "This API key is over its requests per minute: try again in {seconds} s, or make one with a higher --rate.",
        "该 API 密钥超出每分钟请求数：请在 {seconds} 秒后重试，或用更高的 --rate 创建密钥。",
    ),
    "login_needed": ("Log in first: open the page.", "请先登录：打开本页面。"),
    "guests_watch": (
        "You are a guest here and may watch: who shares this page decided so (--guests).",
        "您是访客，只能观看：分享者通过 --guests 如此设定。",
    ),
    "guests_make": (
        "You are a guest here: you may watch, make videos and change those you made, and leave others as they are (--guests).",
        "您是访客：可以观看、生成视频并改动自己生成的视频，但不能改动他人的内容（--guests）。",
    ),
    "not_served": ("There is nothing of that name here.", "此处没有该内容。"),
    "body_large": ("The request is too large: at most {limit_mb} MB are taken.", "请求过大：最多 {limit_mb} MB。"),
    "call_unknown": ("The request is none of this page's. Reload the page.", "该请求不属于本页面，请刷新页面。"),
    "uploads_busy": (
        "Too many files are being uploaded at once: try again in a moment.",
        "同时上传的文件过多：请稍后重试。",
    ),
    "upload_gone": (
        "The uploaded file is no longer here: choose it again.",
        "上传的文件已不存在：请重新选择。",
    ),
    "key_name": (
        "A key's name has 1 to 64 letters, digits, dots, dashes or underscores; {value!r} has not.",
        "密钥名称须为 1 到 64 个字母、数字、点、横线或下划线；{value!r} 不符合。",
    ),
    "key_exists": (
        "There is a key named {name} already: choose another name, or revoke it first.",
        "已有名为 {name} 的密钥：请换一个名称，或先吊销它。",
    ),
    "key_absent": (
        "There is no key named {name!r}; the keys are: {known}.",
        "没有名为 {name!r} 的密钥；现有：{known}。",
    ),
    "keys_unreadable": (
        "The API keys in {file} cannot be read ({reason}): no key opens anything. Remove the file and make new keys.",
        "无法读取 {file} 中的 API 密钥（{reason}）：所有密钥均无效。请删除该文件并重新创建密钥。",
    ),
    "video_absent": ("There is no video {value!r} here.", "此处没有视频 {value!r}。"),
    "video_unready": (
        "The video is {state}: its file is there once its status is completed.",
        "视频状态为 {state}：完成后才有文件。",
    ),
    "video_file_gone": ("The file is no longer on the disk of this machine.", "该文件已不在本机磁盘上。"),
    "video_not_running": ("The video is {state}: there is nothing to stop.", "视频状态为 {state}：没有可停止的任务。"),
    "video_not_resumable": (
        "The video is {state}: only a failed or stopped one can be resumed.",
        "视频状态为 {state}：只有失败或已停止的才能继续。",
    ),
    "video_cancelled": ("The video was stopped by request.", "视频已按请求停止。"),
    "video_interrupted": (
        "The program ended while it made the video: resume it, and it goes on from where it was.",
        "程序在生成过程中退出：可继续，将从中断处接着生成。",
    ),
    "request_unreadable": (
        "The request could not be read ({reason}): send multipart/form-data or an object in json.",
        "无法读取请求（{reason}）：请发送 multipart/form-data 或 json 对象。",
    ),
    "request_key": (
        "An Idempotency-Key has 1 to {limit} printable characters: send another one.",
        "Idempotency-Key 须为 1 到 {limit} 个可打印字符：请更换。",
    ),
    "request_key_reused": (
        "This Idempotency-Key was sent with another request before: take a new one for a new video.",
        "该 Idempotency-Key 已用于另一请求：新视频请使用新的键。",
    ),
    "field_unknown": (
        "There is no field {field!r}; the fields are: {known}.",
        "没有名为 {field!r} 的字段；可用字段：{known}。",
    ),
    "field_twice": (
        "{field} is given twice (also as {other}): give it once.",
        "{field} 重复给出（另见 {other}）：请只给一次。",
    ),
    "field_text": ("{field} must be a text.", "{field} 必须是文本。"),
    "field_object": ("{field} must be an object of fields.", "{field} 必须是由字段组成的对象。"),
    "remix_field": (
        "A remix keeps its model and its picture: leave {field} out, or ask for a new video.",
        "remix 沿用原模型和图片：请去掉 {field}，或新建视频。",
    ),
    "size_form": (
        "{field} is {value!r}, it must be WIDTHxHEIGHT, for example 992x544.",
        "{field} 为 {value!r}，格式须为“宽x高”，例如 992x544。",
    ),
    "fps_fixed": (
        "Videos have {fps} frames per second: leave {field} {value} out.",
        "视频固定为每秒 {fps} 帧：请去掉 {field} {value}。",
    ),
    "preset_unknown": (
        "There is no preset {value!r} for that model; the presets are: {known}.",
        "该模型没有预设 {value!r}；可用预设：{known}。",
    ),
    "image_remote": (
        "Addresses and file ids of pictures are not opened: send the picture itself, as a file in {field} or as data:image/png;base64,...",
        "不会打开图片地址或文件编号：请直接发送图片，作为 {field} 文件或 data:image/png;base64,...",
    ),
    "streams_busy": (
        "Too many clients follow events just now: ask for the video instead.",
        "当前订阅事件的客户端过多：请改为查询视频。",
    ),
    "folder_unshown": (
        "{folder} cannot be opened in a window ({reason}): open it by hand.",
        "无法在窗口中打开 {folder}（{reason}）：请手动打开。",
    ),
    "download_busy": (
        "{model} is being downloaded: one at a time. Stop it first, or wait.",
        "正在下载 {model}：一次只能下载一个。请先停止或等待其完成。",
    ),
    "download_ended": (
        "The download of {model} ended by itself (exit code {exit}). Start it again: it goes on where it stopped.",
        "{model} 的下载自行结束（退出码 {exit}）。请重新开始，下载会从中断处继续。",
    ),
}
