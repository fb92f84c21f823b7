"""Looks at an installation and at one owner's grant, and says what is wrong, why it matters, and the repair.

One module a subject. A look changes nothing and spends no refresh token; what it does not find out in its
time, it says that it can't know. The command line and the console show the same findings.
"""
