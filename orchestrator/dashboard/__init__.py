"""The dashboard: pages for people, made of what the API answers.

There is no SQL and no rule of its own: a page calls the API in process, with the rights of the
reader's key. `entrance` loads all else with the first request of a page.
"""
