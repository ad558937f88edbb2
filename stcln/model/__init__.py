"""The network: encoder, heads, masks, checkpoints, and what turns a tile into probabilities.

Training and the files of a study do not belong here.
"""
