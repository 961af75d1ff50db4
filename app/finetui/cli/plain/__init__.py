"""`finetui --plain`: home, wizard, monitor and chat by questions, a fact a line: for any terminal."""
