"""SimCLR-style contrastive training of an encoder, and a linear probe beside it, as in the Keras example."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

keras.utils.set_random_seed(11)


def encoder():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
        ],
        name="encoder",
    )


class ContrastiveModel(keras.Model):
    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature
        self.augmenter = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.RandomFlip("horizontal", seed=5), layers.GaussianNoise(0.05, seed=6)],
            name="augmenter",
        )
        self.encoder = encoder()
        self.projection_head = keras.Sequential(
            [keras.Input((12,)), layers.Dense(12, activation="relu"), layers.Dense(12)], name="projection_head"
        )
        self.linear_probe = keras.Sequential([keras.Input((12,)), layers.Dense(4)], name="linear_probe")

    def compile(self, contrastive_optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer = contrastive_optimizer
        self.probe_optimizer = probe_optimizer
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.contrastive_loss_tracker = keras.metrics.Mean(name="c_loss")
        self.probe_loss_tracker = keras.metrics.Mean(name="p_loss")
        self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy(name="p_acc")

    @property
    def metrics(self):
        return [self.contrastive_loss_tracker, self.probe_loss_tracker, self.probe_accuracy]

    def contrastive_loss(self, projections_1, projections_2):
        projections_1 = ops.normalize(projections_1, axis=1)
        projections_2 = ops.normalize(projections_2, axis=1)
        similarities = ops.matmul(projections_1, ops.transpose(projections_2)) / self.temperature
        labels = ops.arange(ops.shape(projections_1)[0])
        loss_1 = keras.losses.sparse_categorical_crossentropy(labels, similarities, from_logits=True)
        loss_2 = keras.losses.sparse_categorical_crossentropy(labels, ops.transpose(similarities), from_logits=True)
        return ops.mean(loss_1 + loss_2) / 2

    def train_step(self, data):
        (unlabeled, _), (labeled, labels) = data
        images = tf.concat([unlabeled, labeled], axis=0)
        augmented_1 = self.augmenter(images, training=True)
        augmented_2 = self.augmenter(images, training=True)
        with tf.GradientTape() as tape:
            projections_1 = self.projection_head(self.encoder(augmented_1, training=True), training=True)
            projections_2 = self.projection_head(self.encoder(augmented_2, training=True), training=True)
            c_loss = self.contrastive_loss(projections_1, projections_2)
        weights = self.encoder.trainable_weights + self.projection_head.trainable_weights
        gradients = tape.gradient(c_loss, weights)
        self.contrastive_optimizer.apply_gradients(zip(gradients, weights))
        self.contrastive_loss_tracker.update_state(c_loss)

        features = self.encoder(self.augmenter(labeled, training=True), training=False)
        with tf.GradientTape() as tape:
            class_logits = self.linear_probe(features, training=True)
            probe_loss = self.probe_loss(labels, class_logits)
        gradients = tape.gradient(probe_loss, self.linear_probe.trainable_weights)
        self.probe_optimizer.apply_gradients(zip(gradients, self.linear_probe.trainable_weights))
        self.probe_loss_tracker.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, class_logits)
        return {m.name: m.result() for m in self.metrics}


rng = np.random.default_rng(3)
unlabeled = tf.data.Dataset.from_tensor_slices((rng.random((48, 8, 8, 3), "float32"), np.zeros(48, "int64"))).batch(12)
labeled = tf.data.Dataset.from_tensor_slices((rng.random((16, 8, 8, 3), "float32"), np.arange(16) % 4)).batch(4)
model = ContrastiveModel()
model.compile(contrastive_optimizer=keras.optimizers.Adam(), probe_optimizer=keras.optimizers.Adam())
model.fit(tf.data.Dataset.zip((unlabeled, labeled)), epochs=2)
