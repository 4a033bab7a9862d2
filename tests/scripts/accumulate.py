"""Gradients added up over two batches by hand before they are applied."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(4)


class Accumulating(keras.Model):
    def __init__(self, every, **kwargs):
        super().__init__(**kwargs)
        self.every = every
        self.seen = tf.Variable(0, trainable=False, dtype=tf.int32)

    def build_sums(self):
        self.sums = [tf.Variable(tf.zeros_like(v.value), trainable=False) for v in self.trainable_variables]

    def train_step(self, data):
        x, y = data
        self.seen.assign_add(1)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred)
        for total, gradient in zip(self.sums, tape.gradient(loss, self.trainable_variables)):
            total.assign_add(gradient / self.every)
        tf.cond(tf.equal(self.seen % self.every, 0), self.apply_sums, lambda: None)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}

    def apply_sums(self):
        self.optimizer.apply_gradients(zip(self.sums, self.trainable_variables))
        for total in self.sums:
            total.assign(tf.zeros_like(total))


rng = np.random.default_rng(0)
x = rng.normal(size=(96, 10)).astype("float32")
y = (x @ rng.normal(size=(10, 1)) > 0).astype("float32")

inputs = keras.Input((10,))
outputs = layers.Dense(1, activation="sigmoid")(layers.Dense(12, activation="tanh")(inputs))
model = Accumulating(2, inputs=inputs, outputs=outputs)
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "binary_crossentropy", metrics=["mae"])
model.build_sums()
model.fit(x, y, batch_size=16, epochs=2)
