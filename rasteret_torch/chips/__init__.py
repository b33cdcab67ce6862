"""Which pieces of ground, in which order: layouts, and order, shares and resuming as arithmetic.

`survey` finds the ground of a collection, `layouts` divide it into chips, `native` moves one onto the pixels of its
item; `order` shuffles an epoch, `share` deals it out to ranks and workers, `resume` says where a run stands; `mixing`
is the arithmetic behind them.
"""
