/** How names are found from inside a machine, and under which names it is found. */
export interface DnsConfig {
  /** It has no name below `.internal`. */
  readonly skip_registration?: boolean
  /** Addresses, in place of Roost's own. At most 3. */
  readonly nameservers?: readonly string[]
  readonly searches?: readonly string[]
  /** Of resolv.conf(5): `ndots` `2`. Without a value: `rotate` ``. */
  readonly options?: readonly { readonly name: string; readonly value: string }[]
  /** Names below `basename` are asked of `addr`. */
  readonly dns_forward_rules?: readonly { readonly basename: string; readonly addr: string }[]
  readonly hostname?: string
  readonly hostname_fqdn?: string
}
