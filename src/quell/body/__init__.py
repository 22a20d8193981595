"""What is true: one patient, one life at a time. Biology does not know that it is in a trial.

Organs: ``drug``, ``immunity``, ``vessel``, ``heart``, ``risk``. ``population`` draws people, ``course`` lives their
lives, ``parameters`` holds every constant with its source.
"""
