def catalogue(): return {}
