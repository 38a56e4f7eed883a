"""How often each rollout tool is wrong: the gate, Flagger, Argo Rollouts and Kayenta, simulated.

`python -m benchmarks.rollout` writes results.md, results.json and results.svg;
`python -m benchmarks.rollout.speed` times the gate's own code.
"""
