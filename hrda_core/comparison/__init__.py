"""Which of two models is more accurate on a drive, by a person's answers about pixels on which they disagree.

drive          the frames that are looked at, drawn such that every frame of the drive has the same chance
disagreement   both models on these frames: how often they disagree, and the pixels that are asked about
sequential     the difference of accuracy with bounds that hold however often one looks, and so may end the questions
result         the answers as figures, by class and by pair of classes, and in sentences
session        all of it in a folder: questions, answers, result; a later call goes on

Nothing here needs torch: the models run as bundles.
"""
