/**
 * Words of a command line as a POSIX shell would split it: blanks part words, '…' and "…" keep them together, a backslash
 * keeps the next character. Nothing is expanded. null: a quote is not closed, or a backslash stands at the end.
 */
export function splitCommand(text: string): readonly string[] | null {
  const words: string[] = []
  let word: string | null = null
  let quote: "'" | '"' | null = null
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? ''
    if (quote === "'") {
      if (char === "'") quote = null
      else word += char
    } else if (char === '\\') {
      const next = text[++at]
      if (next === undefined) return null
      // Within double quotes only these lose their meaning; the end of a line is taken away everywhere.
      if (next === '\n') continue
      if (quote === '"' && !'"\\$`'.includes(next)) word = `${word ?? ''}\\${next}`
      else word = `${word ?? ''}${next}`
    } else if (char === '"' || char === "'") {
      if (quote === char) quote = null
      else if (quote === null) {
        quote = char
        word ??= ''
      } else word += char
    } else if (quote === null && /\s/.test(char)) {
      if (word !== null) words.push(word)
      word = null
    } else word = `${word ?? ''}${char}`
  }
  if (quote !== null) return null
  if (word !== null) words.push(word)
  return words
}

/** What `splitCommand` makes the same words of. */
export function joinCommand(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ')
}
