"""The frames engine: bytes in, arrays out. It knows nothing of formats.

`layout` says where frames lie, `navigation` which of them each scan point shows, `storage` fetches bytes, `frames`
turns them into pixels, `lazy` and `eager` into whole arrays; `pixels` is the protocol they share.
"""
