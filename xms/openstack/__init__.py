"""The target: a cloud as a plain project member sees it, through openstacksdk."""
