"""Sentences of the command `check`, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
CHECK_MESSAGES: dict[str, tuple[str, str]] = {
    "check_versions": (
        "Version {version}, Python {python}, PyTorch {torch}, {system}.",
        "版本 {version}，Python {python}，PyTorch {torch}，{system}。",
    ),
    "check_gpu": (
        "{device}, {total_gb:.1f} GB, compute capability {capability}, CUDA {cuda}, cuDNN {cudnn}",
        "{device}，{total_gb:.1f} GB，计算能力 {capability}，CUDA {cuda}，cuDNN {cudnn}",
    ),
    "check_no_gpu": (
        "PyTorch finds no NVIDIA GPU: only nano runs at a useful speed. With a card: install its driver and a CUDA "
        "build of PyTorch (docs/install.md).",
        "PyTorch 未找到 NVIDIA GPU：只有 nano 能以可用速度运行。"
        "如有显卡：请安装驱动和 CUDA 版 PyTorch（docs/install.md）。",
    ),
    "check_old_cudnn": (
        "The VAE's encoder needs 3D convolutions in bfloat16, which cuDNN {cudnn} computes badly: install PyTorch 2.10 "
        "or newer.",
        "cuDNN {cudnn} 的 bfloat16 三维卷积有缺陷，而 VAE 编码器需要它：请安装 PyTorch 2.10 或更新版本。",
    ),
    "check_free": (
        "{ram_gb:.1f} GB of RAM and {vram_gb:.1f} GB of VRAM are free",
        "空闲内存 {ram_gb:.1f} GB，空闲显存 {vram_gb:.1f} GB",
    ),
    "check_disk": ("{free_gb:.1f} GB are free in {folder}", "{folder} 中空闲 {free_gb:.1f} GB"),
    "check_disk_small": (
        "{free_gb:.1f} GB are free in {folder}, and a 30B model takes about {need_gb} GB: choose another disk with "
        "--model-dir.",
        "{folder} 中空闲 {free_gb:.1f} GB，而 30B 模型约需 {need_gb} GB：请用 --model-dir 选择其他磁盘。",
    ),
    "check_ffmpeg": ("Videos are written by {file}.", "视频由 {file} 写入。"),
    "check_model": ("Every file is whole.", "所有文件完整。"),
    "check_model_broken": (
        "{problem} Say more: {program} inspect {folder}. Mend it: {program} download {model}",
        "{problem} 查看详情：{program} inspect {folder}。修复：{program} download {model}",
    ),
    "check_no_models": (
        "Beside nano no model is installed: {program} download step-video-t2v fetches one.",
        "除 nano 外没有安装模型：可运行 {program} download step-video-t2v 下载。",
    ),
    "check_speeds": (
        "TFLOP/s: products {tflops:.3g}, attention {attention_tflops:.3g}. GB/s: memory {memory_gbps:.3g}, RAM to "
        "device {link_gbps:.3g}, disk {disk_gbps:.3g}, registering RAM {register_gbps:.3g}",
        "TFLOP/s：矩阵乘 {tflops:.3g}，注意力 {attention_tflops:.3g}。GB/s：显存 {memory_gbps:.3g}，内存到设备 "
        "{link_gbps:.3g}，磁盘 {disk_gbps:.3g}，锁页 {register_gbps:.3g}",
    ),
    "check_kernel": ("PyTorch's kernel: {kernel}", "PyTorch 内核：{kernel}"),
    "check_kernel_speed": (
        "{tokens} tokens of width {width}: {kernel}, {tflops:.0f} TFLOP/s ({speeds})",
        "{tokens} 个词元，宽度 {width}：{kernel}，{tflops:.0f} TFLOP/s（{speeds}）",
    ),
    "check_kernel_slow": (
        "{tokens} tokens of width {width}: {kernel} has {tflops:.0f} TFLOP/s, {fastest} is faster ({speeds}): a newer "
        "PyTorch may choose it",
        "{tokens} 个词元，宽度 {width}：{kernel} 为 {tflops:.0f} TFLOP/s，{fastest} 更快（{speeds}）："
        "更新的 PyTorch 可能会选用它",
    ),
    "check_agrees": (
        "{device} is off by {percent:.2g} % from float32 on the CPU, {bound:.2g} % are allowed",
        "{device} 与 CPU float32 相差 {percent:.2g} %，允许 {bound:.2g} %",
    ),
    "check_disagrees": (
        "{device} is off by {percent:.2g} % from float32 on the CPU, only {bound:.2g} % are allowed: videos would be "
        "wrong. Update the driver and PyTorch, then check again.",
        "{device} 与 CPU float32 相差 {percent:.2g} %，只允许 {bound:.2g} %：视频会出错。"
        "请更新驱动和 PyTorch 后重新检查。",
    ),
    "check_needs_bitsandbytes": (
        "Not checked: products in int8 need bitsandbytes, which is not installed.",
        "未检查：int8 矩阵乘需要 bitsandbytes，但未安装。",
    ),
    "check_same_bits": (
        "{blocks} blocks on the device, from RAM, from disk and mixed: the same bits in {plans} plans",
        "{blocks} 个模块常驻设备、来自内存、来自磁盘及混合：{plans} 种计划结果逐位相同",
    ),
    "check_other_bits": (
        "These plans give other bits than the planner's own: {plans}. Please report it with this table.",
        "以下计划的结果与规划器自身的计划不同：{plans}。请附上本表报告问题。",
    ),
    "check_peak": (
        "{peak_gb:.2f} GB of VRAM at most, {promised_gb:.2f} were planned",
        "显存峰值 {peak_gb:.2f} GB，计划 {promised_gb:.2f} GB",
    ),
    "check_peak_over": (
        "{peak_gb:.2f} GB of VRAM at most, only {promised_gb:.2f} were planned: lower --vram by the difference",
        "显存峰值 {peak_gb:.2f} GB，计划仅 {promised_gb:.2f} GB：请将 --vram 减去差值",
    ),
    "check_overhead": (
        "{frames} frames of {height}x{width}: a step of {blocks} blocks takes {streamed:.3g} s streamed and {held:.3g} "
        "s resident, {percent:+.1f} %; its copies take {copies:.3g} s",
        "{frames} 帧 {height}x{width}：{blocks} 个模块的一步，流式 {streamed:.3g} 秒，常驻 {held:.3g} 秒，"
        "{percent:+.1f} %；拷贝耗时 {copies:.3g} 秒",
    ),
    "check_overhead_high": (
        "{frames} frames of {height}x{width}: a step of {blocks} blocks takes {streamed:.3g} s streamed, {held:.3g} s "
        "resident, {copies:.3g} s of copies: they are not hidden. Stop what else copies to the GPU or uses the CPU, "
        "then check again",
        "{frames} 帧 {height}x{width}：{blocks} 个模块的一步，流式 {streamed:.3g} 秒，常驻 {held:.3g} 秒，"
        "拷贝 {copies:.3g} 秒：拷贝未被计算掩盖。请停止其他占用 GPU 传输或 CPU 的程序后重新检查",
    ),
    "check_overhead_cpu": (
        "{frames} frames of {height}x{width}, one head: a step of {blocks} blocks takes {streamed:.3g} s streamed and "
        "{held:.3g} s resident, {percent:+.0f} %. On a CPU a copy is computation: this says nothing of a GPU",
        "{frames} 帧 {height}x{width}，单头：{blocks} 个模块的一步，流式 {streamed:.3g} 秒，常驻 {held:.3g} 秒，"
        "{percent:+.0f} %。CPU 上拷贝也占计算时间，不代表 GPU 的情况",
    ),
    "check_needs_room": (
        "Not checked at {frames} frames: a few blocks and their activations do not fit in the free VRAM.",
        "{frames} 帧未检查：空闲显存放不下几个模块及其激活值。",
    ),
    "check_no_time": (
        "Not checked: the checks before it took {seconds:.0f} s.",
        "未检查：之前的检查已用 {seconds:.0f} 秒。",
    ),
    "check_decode": (
        "Decoding 17 frames of 544x992 takes {seconds:.2f} s and {peak_gb:.2f} GB of VRAM at most; {promised_gb:.2f} "
        "were planned",
        "解码 17 帧 544x992 用时 {seconds:.2f} 秒，显存峰值 {peak_gb:.2f} GB，计划 {promised_gb:.2f} GB",
    ),
    "check_decode_over": (
        "Decoding 17 frames of 544x992 takes {seconds:.2f} s and {peak_gb:.2f} GB of VRAM at most; only "
        "{promised_gb:.2f} were planned: lower --vram by the difference",
        "解码 17 帧 544x992 用时 {seconds:.2f} 秒，显存峰值 {peak_gb:.2f} GB，计划仅 {promised_gb:.2f} GB："
        "请将 --vram 减去差值",
    ),
    "check_step": (
        "About {seconds:.0f} s per step with {model}, {frames} frames of 544x992: {resident} of {units} blocks stay on "
        "the device.",
        "{model}，{frames} 帧 544x992：每步约 {seconds:.0f} 秒，{units} 个模块中 {resident} 个常驻设备。",
    ),
    "check_step_none": ("A step does not fit: {reason}", "无法容纳一步：{reason}"),
    "check_needs_gpu": ("Not checked: it needs an NVIDIA GPU.", "未检查：需要 NVIDIA GPU。"),
    "check_needs_space": (
        "Not checked: it writes {need_gb} GB for a moment, and {folder} has {free_gb:.1f} GB free: --output-dir names "
        "another disk.",
        "未检查：需临时写入 {need_gb} GB，而 {folder} 只有 {free_gb:.1f} GB 空闲：可用 --output-dir 指定其他磁盘。",
    ),
    "check_failed": ("Failed: {reason}", "失败：{reason}"),
    "check_sum": (
        "{ok} in order, {look} to look at, {skipped} not checked here. The same in {file}",
        "正常 {ok} 项，需处理 {look} 项，未检查 {skipped} 项。结果另存于 {file}",
    ),
}
