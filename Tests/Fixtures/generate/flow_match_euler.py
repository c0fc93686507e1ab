"""FlowMatchEulerDiscreteScheduler of diffusers: timesteps and sigmas, and every step of short runs."""
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from common import generator, write

tensors = {}
for shift in (1.0, 3.0, 5.0):
    for steps in (1, 4, 8, 20):
        s = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
        s.set_timesteps(steps)
        name = f"shift{int(shift)}.steps{steps}"
        tensors[f"{name}.out.timesteps"], tensors[f"{name}.out.sigmas"] = s.timesteps.float(), s.sigmas.float()
        if steps in (4, 8):
            x = torch.randn(2, 3, 4, generator=generator())
            velocities = torch.randn(steps, 2, 3, 4, generator=generator(1))
            tensors[f"{name}.in.x"], tensors[f"{name}.in.velocities"] = x, velocities
            after = []
            for t, v in zip(s.timesteps, velocities):
                x = s.step(v, t, x, return_dict=False)[0]
                after.append(x)
            tensors[f"{name}.out.steps"] = torch.stack(after)
write("flow_match_euler.safetensors", tensors)
