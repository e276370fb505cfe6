/**
 * Splits and expands text as Dockerfile frontends do: quotes, escapes, `$NAME` and `${NAME:-word}`. It is not a shell's
 * grammar: no command substitution, no globs, and a backslash before any character stands for that character.
 */
export interface ExpandOptions {
  readonly escapeChar: string
  /** Values by name; a name that is missing is empty, or stays as written when `keepUnset`. */
  readonly variables: ReadonlyMap<string, string>
  readonly keepUnset?: boolean
  /** `strip`: quotes group and go. `keep`: they group and stay. `plain`: they are ordinary characters. */
  readonly quotes: 'strip' | 'keep' | 'plain'
  readonly keepEscapes?: boolean
}

export interface Expanded {
  readonly text: string
  /** Split at white space outside of quotes, after expansion. */
  readonly words: readonly string[]
}

/** Throws an Error whose message a person understands. */
export function expand(source: string, options: ExpandOptions): Expanded {
  return new Expansion(source, options).run(null)
}

const SPECIAL = '@*#?-$!0'

class Expansion {
  readonly #source: readonly string[]
  readonly #options: ExpandOptions
  #at = 0
  #keepEscapes: boolean

  constructor(source: string, options: ExpandOptions) {
    this.#source = [...source]
    this.#options = options
    this.#keepEscapes = options.keepEscapes ?? false
  }

  run(stop: string | null): Expanded {
    let text = ''
    let word = ''
    let inWord = false
    const words: string[] = []
    const addRaw = (part: string) => {
      word += part
      inWord = true
    }
    const addSplit = (part: string) => {
      for (const char of part) {
        if (!/\s/.test(char)) addRaw(char)
        else if (inWord && word !== '') {
          words.push(word)
          word = ''
          inWord = false
        }
      }
    }
    const finish = () => {
      if (word !== '') words.push(word)
      return { text, words }
    }
    for (;;) {
      const char = this.#source[this.#at]
      if (char === undefined) break
      if (char === stop) {
        this.#at++
        return finish()
      }
      if (char === '$') {
        const value = this.#dollar()
        text += value
        addSplit(value)
      } else if (this.#options.quotes !== 'plain' && (char === "'" || char === '"')) {
        const value = char === "'" ? this.#single() : this.#double()
        text += value
        addRaw(value)
      } else if (char === this.#options.escapeChar) {
        this.#at++
        if (this.#keepEscapes) {
          text += char
          addRaw(char)
        }
        const next = this.#source[this.#at]
        if (next === undefined) break
        this.#at++
        text += next
        addRaw(next)
      } else {
        this.#at++
        text += char
        addSplit(char)
      }
    }
    if (stop !== null) throw new Error(`${stop} is missing`)
    return finish()
  }

  #single(): string {
    const end = this.#source.indexOf("'", this.#at + 1)
    if (end < 0) throw new Error('a single quote is not closed')
    const inner = this.#source.slice(this.#at + 1, end).join('')
    this.#at = end + 1
    return this.#options.quotes === 'keep' ? `'${inner}'` : inner
  }

  #double(): string {
    const quote = this.#options.quotes === 'keep' ? '"' : ''
    let text = quote
    this.#at++
    for (;;) {
      const char = this.#source[this.#at]
      if (char === undefined) throw new Error('a double quote is not closed')
      if (char === '"') {
        this.#at++
        return text + quote
      }
      if (char === '$') {
        text += this.#dollar()
        continue
      }
      this.#at++
      if (char !== this.#options.escapeChar) {
        text += char
        continue
      }
      if (this.#keepEscapes) text += char
      const next = this.#source[this.#at]
      if (next === '"' || next === '$' || next === this.#options.escapeChar) {
        text += next
        this.#at++
      } else if (!this.#keepEscapes) text += char
    }
  }

  #dollar(): string {
    this.#at++
    if (this.#source[this.#at] !== '{') {
      const name = this.#name()
      return name === '' ? '$' : this.#value(name, `$${name}`)
    }
    this.#at++
    const name = this.#name()
    if (name === '') throw new Error('bad substitution: ${ without a name')
    let operator = this.#source[this.#at++]
    if (operator === '}') return this.#value(name, `\${${name}}`)
    const emptyIsUnset = operator === ':'
    if (emptyIsUnset) operator = this.#source[this.#at++]
    if (operator !== '-' && operator !== '+' && operator !== '?')
      throw new Error(`\${${name}${emptyIsUnset ? ':' : ''}${operator ?? ''}…} is not supported`)
    const word = this.run('}').text
    const value = this.#options.variables.get(name)
    const colon = emptyIsUnset ? ':' : ''
    if (value === undefined && this.#options.keepUnset)
      return `\${${name}${colon}${operator}${word}}`
    const isSet = value !== undefined && !(emptyIsUnset && value === '')
    if (operator === '-') return isSet ? value : word
    if (operator === '+') return isSet ? word : ''
    if (!isSet) throw new Error(`${name}: ${word === '' ? 'is not allowed to be unset' : word}`)
    return value
  }

  #value(name: string, written: string): string {
    const value = this.#options.variables.get(name)
    if (value === undefined) return this.#options.keepUnset ? written : ''
    return value
  }

  #name(): string {
    const first = this.#source[this.#at] ?? ''
    if (/\d/.test(first)) return this.#while(/\d/)
    if (first !== '' && SPECIAL.includes(first)) {
      this.#at++
      return first
    }
    return this.#while(/[\p{L}\p{N}_]/u)
  }

  #while(pattern: RegExp): string {
    let text = ''
    for (;;) {
      const char = this.#source[this.#at]
      if (char === undefined || !pattern.test(char)) return text
      text += char
      this.#at++
    }
  }
}
