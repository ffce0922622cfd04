"""Sentences about several GPUs for one video and several machines, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
CLUSTER_MESSAGES: dict[str, tuple[str, str]] = {
    "gpus_invalid": (
        "The value {value} of --gpus is none: give how many, as 2, or which, as 0,1; --device cpu takes how many alone.",
        "--gpus 为 {value}：请给出数量（如 2）或编号（如 0,1）；--device cpu 只接受数量。",
    ),
    "gpus_count": (
        "One video cannot use {count} GPUs: half of an even number, or all of an odd one, must divide the model's {heads} "
        "heads of attention. It can use {usable}.",
        "一个视频不能使用 {count} 块 GPU：偶数的一半或整个奇数须能整除模型的 {heads} 个注意力头。可用数量：{usable}。",
    ),
    "gpus_unguided": (
        "Without guidance (cfg_scale 1) two GPUs would divide the model's {heads} heads of attention, which cannot be "
        "halved: raise cfg_scale, or leave out --gpus.",
        "没有引导时（cfg_scale 为 1），两块 GPU 须平分模型的 {heads} 个注意力头，但无法平分：请调大 cfg_scale，或去掉 --gpus。",
    ),
    "gpus_cluster": (
        "The flags --gpus and --cluster exclude each other: each card of a cluster makes a video of its own. Leave one out.",
        "--gpus 与 --cluster 不能同时使用：集群的每块显卡各自生成一个视频。请去掉其中一个。",
    ),
    "gpus_named": (
        "In a cluster --gpus says how many cards share each video, not which ({value}): Ray hands the cards out.",
        "在集群中 --gpus 只表示多少块显卡共同生成每个视频，不能指定编号（{value}）：显卡由 Ray 分配。",
    ),
    "gpus_shared": (
        "{count} devices share this video. Planned at most for each: {cards}.",
        "{count} 个设备共同生成此视频。每个的计划上限：{cards}。",
    ),
    "rank_memory": (
        "Memory ran out on {device} while several devices shared the video; the same request with a smaller --vram, "
        "which plans with more room, goes on from its last steps.",
        "多个设备共同生成视频时，{device} 内存不足；用更小的 --vram（方案会留更多余量）重复同一请求，会从最近的步骤继续。",
    ),
    "rank_failed": (
        "The process on {device} failed ({said}), and with it the video; the same request goes on from its last step.",
        "{device} 上的进程出错（{said}），视频随之中止；同一请求会从最后一步继续。",
    ),
    "rank_lost": (
        "The process on {device} ended ({how}), and with it the video; the same request goes on from its last step.",
        "{device} 上的进程已结束（{how}），视频随之中止；同一请求会从最后一步继续。",
    ),
    "ray_missing": (
        'Ray is not installed, which videos on several machines need: pip install ".[cluster]".',
        '未安装多机所需的 Ray：pip install ".[cluster]"。',
    ),
    "cluster_token": (
        "There is no token in {file}: copy the head's file there; {program} cluster start makes one on the head.",
        "{file} 中没有令牌：请复制主节点的令牌文件；在主节点运行 {program} cluster start 会生成。",
    ),
    "cluster_failed": (
        "Ray did not start ({reason}): see that the port is free and the address and the token are the head's.",
        "Ray 未能启动（{reason}）：请确认端口空闲，且地址与令牌属于主节点。",
    ),
    "cluster_unreachable": (
        "There is no cluster at {address} that takes this token ({reason}): {program} cluster start makes one.",
        "{address} 没有接受此令牌的集群（{reason}）：可用 {program} cluster start 创建。",
    ),
    "node_differs": (
        "{node} makes no videos here, since it differs in: {different}. Install the same version and models there.",
        "{node} 不参与生成，以下内容不同：{different}。请在该机安装相同版本和模型。",
    ),
    "node_lost": (
        "The video lost its machine {attempts} times, at last {node}: see that machine's log, then resume it.",
        "视频的机器已丢失 {attempts} 次，最近为 {node}：请查看该机日志后继续。",
    ),
}
