"""A physics-informed network: u'' = -u on [0, 1] with u(0) = 1."""

import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(9)


class Oscillator(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = [keras.layers.Dense(16, activation="tanh") for _ in range(2)]
        self.out = keras.layers.Dense(1)

    def call(self, t):
        for layer in self.body:
            t = layer(t)
        return self.out(t)

    @tf.function
    def train_step(self, data):
        t = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as outer:
                outer.watch(t)
                with tf.GradientTape() as inner:
                    inner.watch(t)
                    u = self(t)
                first = inner.gradient(u, t)
            second = outer.gradient(first, t)
            residual = tf.reduce_mean(tf.square(second + u))
            start = tf.reduce_mean(tf.square(self(tf.zeros((1, 1))) - 1.0))
            loss = residual + start
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss, "residual": residual, "start": start}


model = Oscillator()
model.compile(optimizer=keras.optimizers.Adam(1e-2))
points = np.linspace(0, 1, 64, dtype="float32")[:, None]
model.fit(points, batch_size=32, epochs=3, verbose=0)
print(model.predict(points[:3]))
