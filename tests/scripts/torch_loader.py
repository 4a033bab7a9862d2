"""A torch DataLoader given to fit."""

import keras
import numpy as np
import torch
from keras import layers

keras.utils.set_random_seed(6)
torch.manual_seed(6)

rng = np.random.default_rng(2)
x = torch.tensor(rng.normal(size=(60, 7)), dtype=torch.float32)
y = (x.sum(dim=1, keepdim=True) > 0).float()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True)

model = keras.Sequential([keras.Input((7,)), layers.Dense(9, activation="relu"), layers.Dense(1)])
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(loader, epochs=2)
