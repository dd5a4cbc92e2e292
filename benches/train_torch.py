"""The step of benches/train.rs in PyTorch: 784-512-256-10 with ReLU and dropout, batch 128, Adam.

    python benches/train_torch.py [THREADS ...]

Prints the median and the tenth percentile in microseconds, eager and with the fused Adam.
"""

import sys
import time

import torch

ROUNDS = 200


def step_times(threads: int, fused: bool) -> list[float]:
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 512),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(512, 256),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(256, 10),
    )
    adam = torch.optim.Adam(model.parameters(), fused=fused)
    loss = torch.nn.CrossEntropyLoss()
    x, labels = torch.rand(128, 784), torch.arange(128) % 10
    times = []
    for _ in range(ROUNDS + 20):
        start = time.perf_counter()
        adam.zero_grad()
        loss(model(x), labels).backward()
        adam.step()
        times.append((time.perf_counter() - start) * 1e6)
    return sorted(times[20:])


for threads in map(int, sys.argv[1:] or ["1", "2"]):
    for fused in (False, True):
        times = step_times(threads, fused)
        name = "fused Adam" if fused else "eager"
        print(f"torch {torch.__version__}, {threads} threads, {name:>10}: {times[ROUNDS // 2]:8.1f} {times[ROUNDS // 10]:8.1f}")
