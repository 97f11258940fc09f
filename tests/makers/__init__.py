"""What tests of several packages share: places, audio, planted songs, golden numbers, commands. It holds no test."""
