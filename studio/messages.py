"""Sentences of errors and notices and the names of phases, in both languages of the page and the command line.

A sentence says what happened, the numbers, and the knob to turn. Words of the page alone stand in studio.ui.strings.
"""

import re
from collections.abc import Mapping
from typing import Any

from studio import PROGRAM
from studio.messages_check import CHECK_MESSAGES
from studio.messages_cluster import CLUSTER_MESSAGES
from studio.messages_evals import EVALS_MESSAGES
from studio.messages_http import HTTP_MESSAGES
from studio.messages_memory import MEMORY_MESSAGES
from studio.messages_result import RESULT_MESSAGES
from studio.messages_sound import SOUND_MESSAGES, SOUND_PHASES

VALUE_LIMIT = 200  # characters of a value in a sentence
LONGEST_SENTENCE = 1000
VALUE_LIMITS = {"checkpoint": LONGEST_SENTENCE}  # its value is a sentence of models/
MOST_PLAIN = 10**30  # a whole number of more digits is a text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_DIRECTION = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

OTHERS = (
    CHECK_MESSAGES
    | CLUSTER_MESSAGES
    | HTTP_MESSAGES
    | MEMORY_MESSAGES
    | EVALS_MESSAGES
    | SOUND_MESSAGES
    | RESULT_MESSAGES
)
# code: (English, Chinese); {names} are the values given to the error, {program} how the user starts this one.
MESSAGES: dict[str, tuple[str, str]] = OTHERS | {
    "prompt_empty": (
        "The prompt is empty: describe what should happen in the video.",
        "提示词为空：请描述视频内容。",
    ),
    "prompt_long": (
        "The prompt has {length} characters, {limit} are allowed: shorten it by {over}.",
        "提示词有 {length} 个字符，上限为 {limit}：请删去 {over} 个。",
    ),
    "wildcard_unknown": (
        "There is no list for {name} in the prompt; the lists are: {known}. Yours is wildcards/NAME.txt, a word a line.",
        "提示词中的 {name} 没有对应的列表；现有列表：{known}。可自建 wildcards/名称.txt，每行一个词。",
    ),
    "wildcard_endless": (
        "The prompt still holds words to draw after {limit} were drawn: a list names itself, or holds too much.",
        "提示词抽取 {limit} 次后仍有未抽取的内容：可能有列表引用了自身，或内容过多。",
    ),
    "number_range": (
        "{field} is {value}, it must lie between {low} and {high}.",
        "{field} 为 {value}，必须在 {low} 到 {high} 之间。",
    ),
    "number_invalid": ("{field} is {value!r}, which is not a number.", "{field} 为 {value!r}，不是数字。"),
    "number_whole": ("{field} is {value}, it must be a whole number.", "{field} 为 {value}，必须是整数。"),
    "size_step": (
        "{field} is {value}, it must be a multiple of {step}: use {below} or {above}.",
        "{field} 为 {value}，必须是 {step} 的倍数：请用 {below} 或 {above}。",
    ),
    "frames_step": (
        "num_frames is {value}, it must be 1 or a multiple of 17: use {below} or {above}.",
        "num_frames 为 {value}，必须是 1 或 17 的倍数：请用 {below} 或 {above}。",
    ),
    "frames_many": (
        "num_frames is {value}, {model} was trained on up to {limit}: use {limit} or fewer.",
        "num_frames 为 {value}，{model} 最多训练到 {limit} 帧：请用 {limit} 或更少。",
    ),
    "image_needed": (
        "{model} starts from a picture and none was given: add a first image, or choose a text-to-video model.",
        "{model} 需要首帧图片，但没有提供：请添加首帧图片，或改用文生视频模型。",
    ),
    "image_unused": (
        "{model} makes video from text alone and cannot use a first image: remove it, or choose {other}.",
        "{model} 只用文字生成视频，无法使用首帧图片：请移除图片，或改用 {other}。",
    ),
    "motion_unused": (
        "{model} has no motion score: leave motion_score out, or choose {other}.",
        "{model} 没有运动强度：请去掉 motion_score，或改用 {other}。",
    ),
    "camera_unknown": (
        "There is no camera move named {value!r}; the moves are: {known}.",
        "没有名为 {value!r} 的运镜；可用的有：{known}。",
    ),
    "choice_unknown": (
        "{field} is {value!r}; it must be one of {known}.",
        "{field} 为 {value!r}，必须是以下之一：{known}。",
    ),
    "speed_turbo": (
        "{model} was distilled to the steps it takes, so the speed {value} would only harm it: use --speed exact.",
        "{model} 已蒸馏为固定步数，速度 {value} 只会降低质量：请使用 --speed exact。",
    ),
    "calibrate_turbo": (
        "{model} was distilled to the steps it takes: there is nothing to calibrate.",
        "{model} 已蒸馏为固定步数，无需校准。",
    ),
    "calibrate_prompts": (
        "Calibrating {model} takes at least {least} prompts of its kind and there are {count}: give a file with --prompts, a prompt a line; where a picture is the first frame: prompt, tab, the picture's file name.",
        "校准 {model} 至少需要 {least} 条适用的提示词，现有 {count} 条：请用 --prompts 给出文件，每行一条；以图片为首帧时写作“提示词<Tab>图片文件名”。",
    ),
    "latents_not_finite": (
        "The latents are no longer finite numbers after step {step} of {steps} ({phase}), so no video can come of them. The model's files may be damaged ({program} inspect FOLDER), or cfg_scale {cfg_scale} is too high.",
        "第 {step}/{steps} 步（{phase}）之后潜变量出现非有限数值，无法生成视频。模型文件可能已损坏（{program} inspect 文件夹），或 cfg_scale {cfg_scale} 过高。",
    ),
    "values_not_finite": (
        "{what} are no finite numbers (phase {phase}, frame {frame}), so no video can come of them. The model's files are damaged: download them again.",
        "{what}出现非有限数值（阶段 {phase}，第 {frame} 帧），无法生成视频。模型文件已损坏：请重新下载。",
    ),
    "latents_unfinished": (
        "These latents are those of step {step}, before the last one: no frame of the video can be decoded from them. Finish the video first.",
        "这些潜变量停在第 {step} 步，去噪尚未完成，无法由其解码视频帧。请先完成该视频。",
    ),
    "latents_of_others": (
        "The saved latents of step {step} belong to another {what}, so they cannot be decoded here: put that back, or resume the video, which makes all steps again.",
        "已保存的第 {step} 步潜变量对应的 {what} 与现在不同，无法在此解码：请恢复原状，或继续该视频（所有步骤将重新计算）。",
    ),
    "latents_channels": (
        "The latents have {found} channels, {model} decodes {known}: they are of another model.",
        "潜变量有 {found} 个通道，{model} 解码 {known} 个通道：它们来自另一个模型。",
    ),
    "model_unknown": (
        "There is no model named {value!r}; the models are: {known}.",
        "没有名为 {value!r} 的模型；可用的有：{known}。",
    ),
    "model_missing": (
        "{model} is not installed: {folder} lacks {missing}. Get it with: {program} download {model}",
        "{model} 未安装：{folder} 缺少 {missing}。下载命令：{program} download {model}",
    ),
    "model_absent": (
        "{model} is not installed. Get it with: {program} download {model}",
        "{model} 未安装。下载命令：{program} download {model}",
    ),
    "settings_field": (
        "The settings hold a field this version does not know: {fields}. Use a newer version, or remove the field.",
        "设置中有本版本不认识的字段：{fields}。请使用更新的版本，或删去该字段。",
    ),
    "settings_unreadable": ("The settings cannot be read: {reason}.", "无法读取设置：{reason}。"),
    "config_unreadable": ("{file} cannot be used: {reason}.", "无法使用 {file}：{reason}。"),
    "device_unknown": (
        "There is no device {value!r}: --device takes auto, cpu, cuda or cuda:N; for the page also several, or all.",
        "没有名为 {value!r} 的设备：--device 可取 auto、cpu、cuda 或 cuda:N；页面还可用多个设备或 all。",
    ),
    "device_twice": (
        "{value} is named twice in --device: name each device once.",
        "--device 中 {value} 出现两次：每个设备只写一次。",
    ),
    "device_absent": (
        "{value} is not on this machine, where PyTorch finds {count} GPUs: use --device cpu, "
        "or install the PyTorch build for your GPU and its driver.",
        "本机没有 {value}（PyTorch 找到 {count} 块 GPU）：请用 --device cpu，或安装与 GPU 及其驱动匹配的 PyTorch。",
    ),
    "disk_full": (
        "{folder} has {free_gb:.2f} GB free and {need_gb:.2f} GB are needed: free some space or choose another folder.",
        "{folder} 剩余 {free_gb:.2f} GB，需要 {need_gb:.2f} GB：请清理空间或换一个文件夹。",
    ),
    "ffmpeg_missing": (
        "ffmpeg was not found, so no video can be written: pip install imageio-ffmpeg, put ffmpeg on the PATH, "
        "or correct IMAGEIO_FFMPEG_EXE where it is set.",
        "找不到 ffmpeg，无法写入视频：请执行 pip install imageio-ffmpeg，或把 ffmpeg 放到 PATH 中；"
        "若设置了 IMAGEIO_FFMPEG_EXE，请改正它。",
    ),
    "ffmpeg_unusable": (
        "{ffmpeg} cannot be started as ffmpeg ({reason}): correct IMAGEIO_FFMPEG_EXE where it is set, or reinstall imageio-ffmpeg.",
        "无法将 {ffmpeg} 作为 ffmpeg 启动（{reason}）：若设置了 IMAGEIO_FFMPEG_EXE，请改正它，或重新安装 imageio-ffmpeg。",
    ),
    "ffmpeg_silent": (
        "{ffmpeg} took no frame and wrote nothing for {seconds:.0f} seconds, so it was ended. The latents are kept: try again, or with another ffmpeg (IMAGEIO_FFMPEG_EXE).",
        "{ffmpeg} 有 {seconds:.0f} 秒没有接收画面也没有写入数据，已被终止。潜变量已保留：请重试，或换一个 ffmpeg（IMAGEIO_FFMPEG_EXE）。",
    ),
    "image_unreadable": (
        "The first image cannot be read as a picture ({reason}): use a png, jpg, webp, bmp or tiff file.",
        "无法读取首帧图片（{reason}）：请使用 png、jpg、webp、bmp 或 tiff 文件。",
    ),
    "image_format": (
        "The first image cannot be read as a picture: use a png, jpg, webp, bmp or tiff file.",
        "无法读取首帧图片：请使用 png、jpg、webp、bmp 或 tiff 文件。",
    ),
    "image_large": (
        "The first image has {megapixels} megapixels, {limit} are allowed: scale it down.",
        "首帧图片有 {megapixels} 百万像素，上限为 {limit}：请缩小图片。",
    ),
    "image_animated": (
        "The first image is an animation of {frames} frames: save one frame of it as a png or jpg.",
        "首帧图片是包含 {frames} 帧的动画：请把其中一帧存为 png 或 jpg。",
    ),
    "metadata_absent": (
        "This file holds no settings of this program: use an mp4, png or json that it wrote.",
        "该文件中没有本程序的设置：请使用本程序写出的 mp4、png 或 json 文件。",
    ),
    "metadata_missing": (
        "No settings could be read from this file: {reason}.",
        "无法从该文件读取设置：{reason}。",
    ),
    "metadata_large": (
        "The settings in this file are longer than {limit_mb} MB, so this program did not write them: use another file.",
        "该文件中的设置超过 {limit_mb} MB，不是本程序写出的：请换一个文件。",
    ),
    "latents_unreadable": (
        "{file} holds no latents of this program ({reason}).",
        "{file} 不是本程序的潜变量文件（{reason}）。",
    ),
    "output_exists": (
        "{file} exists already: choose another name with --output, or remove it.",
        "{file} 已存在：请用 --output 换一个名字，或删除它。",
    ),
    "output_long": (
        "The name {file} is {over} bytes too long for the files of a result: choose a shorter one with --output.",
        "名称 {file} 对结果文件来说长了 {over} 字节：请用 --output 换一个较短的名字。",
    ),
    "output_odd": (
        "The name {file} holds control characters: choose another one with --output.",
        "名称 {file} 含有控制字符：请用 --output 换一个名字。",
    ),
    "path_unusable": (
        "{path} cannot be used as a path ({reason}): give another one, or change to a folder that exists.",
        "{path} 无法用作路径（{reason}）：请换一个路径，或切换到存在的文件夹。",
    ),
    "rerun_picture": (
        "The first image is not the one this video was made from: keep NAME.first.png beside the video, "
        "or give the same picture with --first-image.",
        "首帧图片与制作该视频时的不同：请把 NAME.first.png 放在视频旁边，或用 --first-image 给出同一张图片。",
    ),
    "rerun_picture_absent": (
        "This video was made from a picture, and {file} is not there: put it back, or give the picture "
        "with --first-image.",
        "该视频由一张图片生成，但找不到 {file}：请放回该文件，或用 --first-image 给出图片。",
    ),
    "rerun_model": (
        "The files of {model} are not the ones this video was made with, so it would come out different: get the old ones (download --revision), or leave --from-video out and give the settings.",
        "{model} 的模型文件与制作该视频时的不同，结果会不一样：请下载原版本（download --revision），或去掉 --from-video 并自行给出设置。",
    ),
    "file_unreadable": ("{file} cannot be read: {reason}.", "无法读取 {file}：{reason}。"),
    "write_failed": ("{file} could not be written: {reason}.", "无法写入 {file}：{reason}。"),
    "checkpoint": ("{reason}", "模型文件有问题：{reason}"),
    "system_refused": (
        "The system refused what was asked of it ({reason}; {file}): free some space or close other programs, then try again.",
        "系统拒绝了操作（{reason}；{file}）：请清理空间或关闭其他程序，然后重试。",
    ),
    "remove_failed": ("{file} could not be removed: {reason}.", "无法删除 {file}：{reason}。"),
    "queue_unwritable": (
        "The queue in {folder} cannot be written ({reason}; {free_gb:.2f} GB are free there): free some space, or choose another folder.",
        "无法写入 {folder} 中的任务队列（{reason}；剩余 {free_gb:.2f} GB）：请清理空间或换一个文件夹。",
    ),
    "queue_busy": (
        "The queue in {folder} was locked by another process for {seconds:.0f} seconds: try again, or end that process.",
        "{folder} 中的任务队列被其他进程锁定了 {seconds:.0f} 秒：请重试，或结束该进程。",
    ),
    "queue_newer": (
        "The queue in {folder} was written by a newer version of this program (its tables are version {found}, "
        "this program knows {known}): update the program, or choose another --output-dir.",
        "{folder} 中的任务队列由本程序的更新版本写入（表版本为 {found}，本程序只认识到 {known}）："
        "请更新程序，或用 --output-dir 选择其他文件夹。",
    ),
    "queue_elsewhere": (
        "Another Step-Video Studio works on this queue, so this one only shows. "
        "Close the other one and start again to make videos here.",
        "另一个 Step-Video Studio 正在处理此队列，本程序仅供查看。要在这里生成视频，请关闭另一个程序后重新启动。",
    ),
    "queue_older": (
        "The queue in {folder} is in use by an older version of this program ({holder}): close that one first, "
        "so that its tables can be brought up to date.",
        "{folder} 中的任务队列正被本程序的旧版本使用（{holder}）：请先关闭它，以便更新队列的表。",
    ),
    "job_running": ("The job is running: stop it before deleting it.", "任务正在运行：请先停止再删除。"),
    "device_busy": (
        "Waiting for the device, which is used by {holder}.",
        "正在等待设备，它正被占用：{holder}。",
    ),
    "unexpected": (
        "The job failed unexpectedly ({kind}: {reason}). The log has the details; Resume goes on from the last saved step.",
        "任务意外失败（{kind}：{reason}）。详情见日志；点“继续”可从最近保存的步骤接着运行。",
    ),
    "worker_killed": (
        "The worker process was killed, perhaps out of memory: {used_gb:.1f} of {total_gb:.1f} GB host memory were in use. Resume goes on from the last saved step; a smaller --ram leaves more room.",
        "工作进程被终止，可能是内存不足：主机内存已用 {used_gb:.1f} GB，共 {total_gb:.1f} GB。点“继续”可从最近保存的步骤接着运行；调小 --ram 可留出更多内存。",
    ),
    "worker_crashed": (
        "The worker process crashed ({signal}; last words: {words}). Resume goes on from the last saved step.",
        "工作进程崩溃（{signal}；最后输出：{words}）。点“继续”可从最近保存的步骤接着运行。",
    ),
    "worker_exited": (
        "The worker process ended with code {status} (last words: {words}). Resume goes on from the last saved step.",
        "工作进程退出，代码 {status}（最后输出：{words}）。点“继续”可从最近保存的步骤接着运行。",
    ),
    "download_source": (
        "{model} has no files on {source} to download.",
        "{model} 在 {source} 上没有可下载的文件。",
    ),
    "download_failed": (
        "{what} could not be fetched from {where}: {reason}. Run the command again: it goes on where it stopped.",
        "无法从 {where} 获取 {what}：{reason}。请重新执行该命令，下载会从中断处继续。",
    ),
    "download_lacks": (
        "{repo} on {source} lacks {missing}, so it is no complete Step-Video checkpoint.",
        "{source} 上的 {repo} 缺少 {missing}，不是完整的 Step-Video 模型。",
    ),
    "download_path": (
        "{repo} on {source} lists {file!r}, which is no plain path inside a model's folder. Nothing was fetched: do not use this repository.",
        "{source} 上的 {repo} 列出了 {file!r}，它不是模型文件夹内的普通路径。没有下载任何文件：请勿使用该仓库。",
    ),
    "download_link": (
        "{folder} is a link to {target}, outside {to}: nothing was fetched. Remove the link, or give the other folder with --to.",
        "{folder} 是指向 {to} 之外 {target} 的链接：没有下载任何文件。请删除该链接，或用 --to 指定另一个文件夹。",
    ),
    "download_checksum": (
        "{file} arrived twice with checksum {found} where the hub promises {promised}; it was deleted. Try the other --source.",
        "{file} 两次下载的校验和均为 {found}，应为 {promised}；文件已删除。请换一个 --source。",
    ),
    "port_taken": (
        "Port {port} of {host} cannot be used ({reason}): choose another with --port, or close the program that has it.",
        "无法使用 {host} 的端口 {port}（{reason}）：请用 --port 换一个端口，或关闭占用它的程序。",
    ),
    "login_invalid": (
        "{file} holds no usable login ({reason}): write USER:PASS, one a line in a file.",
        "{file} 中没有可用的登录信息（{reason}）：请写成 USER:PASS，文件中每行一个。",
    ),
    "host_invalid": (
        "A name to serve the page under cannot be used: {reason}. Give --allowed-host NAME, or https://NAME where the name is reached by https.",
        "无法使用该页面主机名：{reason}。请使用 --allowed-host NAME；若通过 https 访问，请写 https://NAME。",
    ),
    "job_absent": (
        "No job has an id that begins with {id} ({least} letters at least): `{program} queue list --all` shows them.",
        "没有编号以 {id} 开头的任务（至少 {least} 位）：`{program} queue list --all` 会列出全部。",
    ),
    "job_unknown": (
        "{found} jobs have an id that begins with {id}; give more of it, as `queue list` shows it.",
        "有 {found} 个任务的编号以 {id} 开头；请按 `queue list` 显示的编号多写几位。",
    ),
    "cancelled": ("Stopped.", "已停止。"),
    # no failures, but to be known (events.Notice)
    "text_cut": (
        "{encoder} reads {limit} tokens; the last {cut} of the text are not read.",
        "{encoder} 只读取 {limit} 个词元；文字末尾的 {cut} 个不会被读取。",
    ),
    "finished_early": (
        "Finished early, after step {step} of {steps}: the picture is the estimate of that step.",
        "提前完成于第 {step} 步（共 {steps} 步）：画面为该步的估计结果。",
    ),
    "resumed_elsewhere": (
        "Steps 1 to {step} were made before, with another {what}; the others follow here, so the video may differ a little from one made in one piece.",
        "前 {step} 步是此前完成的，当时的 {what} 不同；其余步骤在此继续，视频可能与一次完成的略有差异。",
    ),
    "begun_anew": (
        "The saved latents of step {step} belong to another {what}, so all steps are made again.",
        "已保存的第 {step} 步潜变量对应的 {what} 与现在不同，因此所有步骤将重新计算。",
    ),
    "velocity_growth": (
        "The velocity grew too much between two steps, {count} times so far; such steps are taken as Euler steps. --speed exact is safer for this prompt.",
        "相邻两步之间速度场增大过多（已发生 {count} 次），这些步已改用欧拉法。对此提示词，--speed exact 更稳妥。",
    ),
}

# A job's phases (events.PHASES) as the page and the progress bar name them. encode_image: the first image's latent.
PHASE_TITLES: dict[str, tuple[str, str]] = {
    "load": ("Loading", "载入"),
    "encode_text": ("Encoding text", "编码文字"),
    "encode_image": ("Preparing images", "准备图片"),
    "denoise": ("Denoising", "去噪"),
    "decode": ("Decoding", "解码"),
    "write": ("Writing files", "写入文件"),
    **SOUND_PHASES,
    "mix": ("Mixing sound", "混音"),
}


def message(code: str, values: Mapping[str, Any], language: str = "en") -> str:
    """The sentence of an error or notice in "en" or "zh"; a value may be a dict with a text for each language.

    Values are cleaned here, wherever they come from: names of files, words of libraries and of other programs, a
    stranger's settings.
    """
    limit = VALUE_LIMITS.get(code, VALUE_LIMIT)
    words = {name: _shown(value, language, limit) for name, value in values.items()}
    return MESSAGES[code][language == "zh"].format(program=PROGRAM, **words)


def clean(text: str, limit: int = VALUE_LIMIT) -> str:
    """A text on one line that changes nothing around it: no control characters (terminal escapes begin with one), no
    marks that turn the direction of writing, no halves of characters; a long one loses its middle.
    """
    text = _DIRECTION.sub("", _CONTROL.sub(" ", text))
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else f"{text[: limit * 3 // 5]}…{text[limit * 3 // 5 + 1 - limit :]}"


def _shown(value: Any, language: str, limit: int) -> Any:
    if isinstance(value, dict) and language in value:  # a sentence of this program
        return clean(str(value[language]), LONGEST_SENTENCE)
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < MOST_PLAIN):
        return value
    return clean(str(value), limit)


def phase_title(phase: str, language: str = "en") -> str:
    """The name of a phase in "en" or "zh"."""
    return PHASE_TITLES[phase][language == "zh"]
