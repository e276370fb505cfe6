import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Logger } from '@roost/base'
import type { ClientPlace, RegionCode } from '@roost/core'
import ipaddr from 'ipaddr.js'
import { Reader, type Response } from 'mmdb-lib'
import { COUNTRY_PLACES } from './country-places.ts'

export interface ClientNetwork {
  readonly cidr: string
  readonly region: RegionCode
}

/** Country of an address as ISO 3166 code, or null. */
export type CountryOf = (address: string) => string | null

/**
 * Where a client is: what the owner said of its network goes first, the longest prefix of all that hold it; else the place where most
 * people of its country live, which is enough to choose a continent. Bad networks are named once and left out.
 */
export function createLocator(
  networks: readonly ClientNetwork[],
  countryOf: CountryOf,
  log: Logger,
): (address: string, prefixLength: number) => ClientPlace {
  const parsed = networks.flatMap(({ cidr, region }) => {
    try {
      const [network, length] = ipaddr.parseCIDR(cidr)
      return [{ network, length, region }]
    } catch {
      log.error('refused a client network', { cidr, region })
      return []
    }
  })
  parsed.sort((a, b) => b.length - a.length)

  return (address, prefixLength) => {
    if (!ipaddr.isValid(address)) return { kind: 'unknown' }
    const client = ipaddr.process(address)
    const found = parsed.find(
      ({ network, length }) =>
        network.kind() === client.kind() &&
        length <= prefixLength &&
        client.match([network, length] as [ipaddr.IPv4, number] & [ipaddr.IPv6, number]),
    )
    if (found !== undefined) return { kind: 'region', region: found.region }
    const place = COUNTRY_PLACES[countryOf(client.toString()) ?? '']
    return place === undefined
      ? { kind: 'unknown' }
      : { kind: 'coordinates', latitude: place[0], longitude: place[1] }
  }
}

interface CountryRecord {
  readonly country_code?: string
}

/** The database lies in memory as it is (8 MB). Without it, clients whose network nobody named are nowhere in particular. */
export function openCountryDatabase(log: Logger): CountryOf {
  try {
    const path = createRequire(import.meta.url).resolve(
      '@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb',
    )
    const reader = new Reader<Response>(readFileSync(path))
    return (address) => {
      try {
        return (reader.get(address) as CountryRecord | null)?.country_code ?? null
      } catch {
        return null
      }
    }
  } catch (error) {
    log.error('no database of countries', { error })
    return () => null
  }
}
