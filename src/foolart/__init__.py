"""Adversarial robustness testing, native in Foolbox and in the Adversarial Robustness Toolbox.

``foolart.plugins`` holds the mathematics, ``foolart.adapters`` the attacks and defences as the two
toolkits know them, and ``foolart.evaluation`` the harness that compares them.
"""
