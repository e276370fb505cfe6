import type { Route, TlsOptions } from '@roost/core'

/**
 * What apps ask of TLS handshakes under their names, as HAProxy's lists of certificates with options for single names: one list for
 * where HTTP is inside, one for where it is anything. Only names that the edge's own certificate is for.
 */
export interface TlsLists {
  readonly https: TlsList
  readonly tls: TlsList
}
/** Host name → options, as HAProxy writes them. */
export type TlsList = ReadonlyMap<string, string>

export function tlsListsOf(routes: readonly Route[], domain: string): TlsLists {
  return listsOf(routes, (host) => {
    const label = host.endsWith(`.${domain}`) ? host.slice(0, -domain.length - 1) : ''
    return /^[a-z0-9-]+$/.test(label)
  })
}

/** The same for names of people's own, which have certificates of their own. */
export function ownTlsListsOf(routes: readonly Route[], domain: string): TlsLists {
  return listsOf(routes, (host) => host.includes('.') && !`.${host}`.endsWith(`.${domain}`))
}

function listsOf(routes: readonly Route[], isWanted: (host: string) => boolean): TlsLists {
  const lists = { https: new Map<string, string>(), tls: new Map<string, string>() }
  for (const { listener, hostnames, tls } of routes) {
    const options = tls === undefined ? '' : optionsText(tls)
    if (options === '') continue
    const inside = listener?.kind === 'tls' || listener?.kind === 'pg_tls' ? 'tls' : 'https'
    for (const name of hostnames) {
      const host = (inside === 'tls' ? name.split(':')[1] : name.split(':')[0]) ?? ''
      if (isWanted(host)) lists[inside].set(host, options)
    }
  }
  return lists
}

function optionsText({ alpn = [], versions = [] }: TlsOptions): string {
  const sorted = versions.toSorted()
  const [first, last] = [sorted[0], sorted.at(-1)]
  return [
    ...(alpn.length === 0 ? [] : [`alpn ${alpn.join(',')}`]),
    ...(first === undefined ? [] : [`ssl-min-ver ${first}`]),
    ...(last === undefined ? [] : [`ssl-max-ver ${last}`]),
  ].join(' ')
}

/** One line of such a list. */
export function tlsLine(certificate: string, host: string, options: string): string {
  return options === '' ? `${certificate} ${host}` : `${certificate} [${options}] ${host}`
}

export interface TlsLine {
  /** As it is deleted: file and number of its line. */
  readonly entry: string
  readonly file: string
  readonly host: string
  readonly options: string
}

/** Reads `show ssl crt-list -n`: which line says what of which name. */
export function parseTlsList(text: string): readonly TlsLine[] {
  return text.split('\n').flatMap((line) => {
    const [, file, number, options = '', host] =
      /^(\S+):(\d+)(?: \[(.*)\])? (\S+)$/.exec(line.trim()) ?? []
    if (file === undefined || host === undefined) return []
    const entry = `${file}:${number}`
    return [{ entry, file, host, options: options.replace(/\s+/g, ' ').trim() }]
  })
}
