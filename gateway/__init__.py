"""WeCom (企业微信) single sign-on for nginx ``auth_request``."""

__version__ = "0.1.0"
