"""Small images from tf.data, shuffled and augmented, with callbacks and class weights."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(7)

rng = np.random.default_rng(0)
images = rng.normal(size=(104, 12, 12, 3)).astype("float32")
labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")


def augment(image, label):
    return tf.image.random_flip_left_right(image), label


train = tf.data.Dataset.from_tensor_slices((images[:88], labels[:88]))
train = train.shuffle(88).map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(16).prefetch(tf.data.AUTOTUNE)
valid = tf.data.Dataset.from_tensor_slices((images[88:], labels[88:])).batch(16)

model = keras.Sequential(
    [
        keras.Input((12, 12, 3)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(2),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(1e-3, clipnorm=1.0),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(
    train,
    validation_data=valid,
    epochs=3,
    class_weight={0: 1.0, 1: 3.0},
    callbacks=[
        keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
        keras.callbacks.CSVLogger("log.csv"),
    ],
)
model.save("final.keras")
