"""Numbers that mean something in a compiled forest (models/blob.py). Plain ones: an enum's import costs 2 ms."""

# What turns the sums of leaves into the scores.
IDENTITY = 0
SIGMOID = 1  # 1 / (1 + exp(-parameter * sum)), each output for itself
SOFTMAX = 2  # exp(sum - largest sum), divided by the total of these
EXP = 3
LOG1P_EXP = 4  # log1p(exp(sum))
SIGNED_SQUARE = 5  # sign(sum) * sum * sum
LINKS = 6

# Flags of a node.
MISSING_LEFT = 1  # a missing value goes left, else right; NaN is missing
ZERO = 2  # |x| <= TINY is missing too
CATEGORY = 4  # goes left where the value's whole part is in the node's set; with MISSING_LEFT, NaN does too
NODE_FLAGS = frozenset((0, MISSING_LEFT, ZERO, MISSING_LEFT | ZERO, CATEGORY, CATEGORY | MISSING_LEFT))

TINY = 1.0000000180025095e-35  # float32(1e-35), LightGBM's kZeroThreshold

LEAST_SHARE = 1e-290  # of the training data, in a reason: 0 would be divided by
