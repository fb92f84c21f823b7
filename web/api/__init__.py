"""What programs call: `/api/v1`, an app of its own beside the pages.

It knows neither cookies nor sessions nor forms, so that nothing of a browser's can open it, and a call costs
little more than the one look into the table that it needs. One module a subject; `operations` says what a
call is, `shapes` what goes in and out, `document` writes both down as OpenAPI.
"""
