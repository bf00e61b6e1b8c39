# SPDX-License-Identifier: Apache-2.0
"""Find a key in the memory of a process, in every form in which a program is likely to leave it."""
import base64

SBOX = []


def sbox():
    """The AES S-box (FIPS 197, 5.1.1), computed: inverse in GF(2^8), then the affine map."""
    if not SBOX:
        p = q = 1
        table = [0x63] * 256
        while True:
            p = p ^ (p << 1) & 0xff ^ (0x1b if p & 0x80 else 0)
            q ^= q << 1
            q ^= q << 2
            q ^= q << 4
            q &= 0xff
            if q & 0x80:
                q ^= 0x09
            x = q
            for shift in range(1, 5):
                x ^= (q << shift | q >> (8 - shift)) & 0xff
            table[p] = x ^ 0x63
            if p == 1:
                break
        SBOX.extend(table)
    return SBOX


def key_schedule(key):
    """AES-256 round keys (FIPS 197, 5.2): 60 words; the first eight are the key itself."""
    words = [key[i:i + 4] for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(sbox()[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = constant << 1
        elif i % 8 == 4:
            word = bytes(sbox()[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word)))
    return b"".join(words)


def forms(key):
    """name -> the bytes to look for."""
    found = {"raw": key, "hex": key.hex().encode(), "HEX": key.hex().upper().encode(), "schedule": key_schedule(key)[32:64]}
    for shift in range(3):
        # What base64 makes of the key at each of the three offsets, without the characters that its neighbours share.
        text = base64.b64encode(b"\0" * shift + key)
        found[f"base64+{shift}"] = text[(shift * 8 + 5) // 6:len(text) // 4 * 4 - 4]
    return found


CHUNK = 16 << 20
OVERLAP = 256  # longer than any form
# A sanitizer's shadow is terabytes of address space that hold no byte of the program's; no other mapping comes near.
SHADOW = 1 << 36


def chunks(memory, start, end):
    """What can be read of [start, end), in pieces that overlap; secret memory cannot be read at all."""
    for at in range(start, end, CHUNK):
        try:
            memory.seek(at)
            yield memory.read(min(CHUNK + OVERLAP, end - at))
        except OSError:
            continue


def text_forms(text):
    """name -> the bytes to look for, of a secret that is text: a token, an access key."""
    return {"raw": text, "hex": text.hex().encode(), "base64": base64.b64encode(text)[:len(text) // 3 * 4]}


def locked(pid):
    """The mappings that are the arena, where it is ordinary memory: locked, and neither dumped nor inherited."""
    found, area = set(), None
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            word = line.split()
            if "-" in word[0] and not word[0].endswith(":"):
                area = word[0]
            elif word[0] == "VmFlags:" and {"lo", "dd", "dc"} <= set(word[1:]):
                found.add(area)
    return found


def scan(pid, key):
    """[(form, mapping)] of every copy of a 32-byte key; see scan_for()."""
    return scan_for(pid, forms(key))


def scan_for(pid, wanted):
    """[(form, mapping)] of every copy in the readable memory of @pid; a mapping that cannot be read is secret memory."""
    hits = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            area, permissions, *rest = line.split()
            start, end = (int(x, 16) for x in area.split("-"))
            if "r" not in permissions or end - start > SHADOW or (rest and rest[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            found = {name for data in chunks(memory, start, end) for name, form in wanted.items() if form in data}
            hits += [(name, line.strip()) for name in sorted(found)]
    return hits
