"""A critic with a gradient penalty, trained twice for every time that the generator is."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(31)
NOISE = 6


def make_critic():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 4, 2, padding="same", activation="swish"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def make_generator():
    return keras.Sequential([keras.Input((NOISE,)), layers.Dense(64, activation="tanh"), layers.Reshape((8, 8, 1))])


class WGAN(keras.Model):
    def __init__(self, critic_steps=2, penalty=10.0):
        super().__init__()
        self.critic, self.generator = make_critic(), make_generator()
        self.critic_steps, self.penalty = critic_steps, penalty
        self.seeds = keras.random.SeedGenerator(1)

    def compile(self, critic_optimizer, generator_optimizer, **kwargs):
        super().compile(**kwargs)
        self.critic_optimizer, self.generator_optimizer = critic_optimizer, generator_optimizer

    def gradient_penalty(self, real, fake):
        alpha = keras.random.uniform((tf.shape(real)[0], 1, 1, 1), seed=self.seeds)
        mixed = real + alpha * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(mixed)
            score = self.critic(mixed, training=True)
        slope = tf.sqrt(tf.reduce_sum(tf.square(tape.gradient(score, [mixed])[0]), axis=[1, 2, 3]))
        return tf.reduce_mean((slope - 1.0) ** 2)

    def train_step(self, real):
        if isinstance(real, tuple):
            real = real[0]
        batch = tf.shape(real)[0]
        for _ in range(self.critic_steps):
            noise = keras.random.normal((batch, NOISE), seed=self.seeds)
            with tf.GradientTape() as tape:
                fake = self.generator(noise, training=True)
                cost = tf.reduce_mean(self.critic(fake, training=True)) - tf.reduce_mean(
                    self.critic(real, training=True)
                )
                c_loss = cost + self.penalty * self.gradient_penalty(real, fake)
            gradients = tape.gradient(c_loss, self.critic.trainable_variables)
            self.critic_optimizer.apply_gradients(zip(gradients, self.critic.trainable_variables))
        noise = keras.random.normal((batch, NOISE), seed=self.seeds)
        with tf.GradientTape() as tape:
            g_loss = -tf.reduce_mean(self.critic(self.generator(noise, training=True), training=True))
        gradients = tape.gradient(g_loss, self.generator.trainable_variables)
        self.generator_optimizer.apply_gradients(zip(gradients, self.generator.trainable_variables))
        return {"c_loss": c_loss, "g_loss": g_loss}


images = np.random.default_rng(3).normal(size=(48, 8, 8, 1)).astype("float32")
wgan = WGAN()
wgan.compile(keras.optimizers.Adam(1e-3, beta_1=0.5), keras.optimizers.Adam(1e-3, beta_1=0.5))
wgan.fit(images, batch_size=16, epochs=2)
