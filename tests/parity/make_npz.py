"""Makes weights.npz and weights.safetensors: the same small model's weights, as Keras names them in an archive of NumPy,
and as PyTorch saves them.

    python make_npz.py
"""

import numpy as np
import torch
from safetensors.torch import save_file

rng = np.random.Generator(np.random.PCG64(5))
kernel = rng.standard_normal((3, 4)).astype(np.float32)
arrays = {
    "hidden/kernel": kernel,
    "hidden/bias": rng.standard_normal(4).astype(np.float32),
    "norm/gamma": rng.standard_normal(4).astype(np.float32),
    "norm/beta": rng.standard_normal(4).astype(np.float32),
    "norm/moving_mean": rng.standard_normal(4).astype(np.float32),
    "norm/moving_variance": rng.random(4).astype(np.float32) + 0.5,
}
np.savez("weights.npz", **arrays)

module = torch.nn.Sequential()
module.add_module("hidden", torch.nn.Linear(3, 4))
module.add_module("norm", torch.nn.BatchNorm1d(4))
with torch.no_grad():
    module.hidden.weight.copy_(torch.from_numpy(kernel.T))
    module.hidden.bias.copy_(torch.from_numpy(arrays["hidden/bias"]))
    module.norm.weight.copy_(torch.from_numpy(arrays["norm/gamma"]))
    module.norm.bias.copy_(torch.from_numpy(arrays["norm/beta"]))
    module.norm.running_mean.copy_(torch.from_numpy(arrays["norm/moving_mean"]))
    module.norm.running_var.copy_(torch.from_numpy(arrays["norm/moving_variance"]))
# With the count of batches that PyTorch keeps, an integer.
save_file(module.state_dict(), "weights.safetensors")

# What the model gives for x = [[1, 2, 3], [-1, 0, 1]], in inference.
module.eval()
print(module(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])).detach().numpy().tolist())
