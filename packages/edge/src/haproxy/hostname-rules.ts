import type { ProxyFiles } from './render-config.ts'

/**
 * Which slot a host name leads to: its own, or that of the wildcard that stands for it. Only who has none of its own pays for the second look.
 */
export function nameRules({ hostsMap }: Pick<ProxyFiles, 'hostsMap'>): string[] {
  return [
    `  http-request set-var(txn.slot) var(txn.host),map_str(${hostsMap})`,
    '  http-request set-var(txn.wildcard) var(txn.host),regsub(^[^.]+,*) unless { var(txn.slot) -m found }',
    `  http-request set-var(txn.slot) var(txn.wildcard),map_str(${hostsMap}) unless { var(txn.slot) -m found }`,
  ]
}

/** Plain HTTP is sent away from this name. */
export function isSecureName({ secureMap }: Pick<ProxyFiles, 'secureMap'>): string {
  return `{ var(txn.host),map_str(${secureMap}) -m found } || { var(txn.wildcard),map_str(${secureMap}) -m found }`
}

/** What authorities ask over HTTP-01, whether or not the name leads to an app that answers. */
export function challengeRules(tokens: string): string[] {
  return [
    `  http-request set-var(txn.acme) path,field(4,/),map_str(${tokens}) if { path_beg /.well-known/acme-challenge/ }`,
    '  http-request return status 200 content-type text/plain lf-string "%[var(txn.acme)]" if { var(txn.acme) -m found }',
  ]
}
