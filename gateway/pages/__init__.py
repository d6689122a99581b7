"""What people see: templates, their texts in Chinese and English, and the renderer."""

from gateway.pages.language import choose
from gateway.pages.renderer import Pages

__all__ = ["Pages", "choose"]
