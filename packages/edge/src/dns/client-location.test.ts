import { type Logger, silentLogger } from '@roost/base'
import type { RegionCode } from '@roost/core'
import { expect, test } from 'vitest'
import { createLocator, openCountryDatabase } from './client-location.ts'

const ams = 'ams' as RegionCode
const iad = 'iad' as RegionCode

test('the longest network that holds the client decides, and a bad one is named and left out', () => {
  const refused: unknown[] = []
  const log: Logger = {
    ...silentLogger,
    error: (_message, fields) => refused.push(fields?.['cidr']),
  }
  const locate = createLocator(
    [
      { cidr: '10.0.0.0/8', region: ams },
      { cidr: '10.1.0.0/16', region: iad },
      { cidr: '2001:db8::/32', region: iad },
      { cidr: 'everything', region: ams },
    ],
    () => null,
    log,
  )
  expect(locate('10.1.2.3', 32)).toEqual({ kind: 'region', region: 'iad' })
  expect(locate('10.2.2.3', 32)).toEqual({ kind: 'region', region: 'ams' })
  // All of 10.1.0.0/12 is asked for: what is known of a part of it does not hold for it.
  expect(locate('10.1.0.0', 12)).toEqual({ kind: 'region', region: 'ams' })
  expect(locate('2001:db8:1::', 48)).toEqual({ kind: 'region', region: 'iad' })
  expect(locate('::ffff:10.1.2.3', 128)).toEqual({ kind: 'region', region: 'iad' })
  expect(locate('192.0.2.1', 32)).toEqual({ kind: 'unknown' })
  expect(locate('not an address', 32)).toEqual({ kind: 'unknown' })
  expect(refused).toEqual(['everything'])
})

test('the database knows countries of addresses, and none of private ones', () => {
  const locate = createLocator([], openCountryDatabase(silentLogger), silentLogger)
  expect(locate('193.0.6.139', 32)).toEqual({ kind: 'coordinates', latitude: 52, longitude: 5 })
  expect(locate('2001:67c:2e8::', 48)).toMatchObject({ kind: 'coordinates' })
  expect(locate('10.0.0.1', 32)).toEqual({ kind: 'unknown' })
})
