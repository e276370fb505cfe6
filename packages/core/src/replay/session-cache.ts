import type { ReplayCacheRule } from '../machine/config.ts'

/** Of one request: which rule is for it, and the key of its session; null: there is none. */
export function sessionOf(
  rules: readonly ReplayCacheRule[],
  request: {
    /** Without port. */
    readonly host: string
    readonly path: string
    readonly valueOf: (type: ReplayCacheRule['type'], name: string) => string | undefined
  },
): { readonly rule: ReplayCacheRule; readonly key: string } | null {
  const { host, path } = request
  const fitting = rules
    .map((rule) => ({ rule, ...prefixOf(rule) }))
    .filter((one) => (one.host === '' || one.host === host) && isBelow(path, one.path))
    .sort((a, b) => b.path.length - a.path.length || b.host.length - a.host.length)[0]
  if (fitting === undefined) return null
  const { type, name, path_prefix } = fitting.rule
  const value = request.valueOf(type, name)
  if (value === undefined || value === '') return null
  return { rule: fitting.rule, key: JSON.stringify([host, path_prefix, type, name, value]) }
}

function prefixOf({ path_prefix }: ReplayCacheRule): { host: string; path: string } {
  const at = path_prefix.indexOf('/')
  return { host: path_prefix.slice(0, at).toLowerCase(), path: path_prefix.slice(at) }
}

function isBelow(path: string, prefix: string): boolean {
  return path === prefix || path.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`)
}

/** From a request's header `cookie`. */
export function cookieOf(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? '').split(';')) {
    const at = part.indexOf('=')
    if (at !== -1 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim()
  }
  return undefined
}
