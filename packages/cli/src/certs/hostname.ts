import { domainToASCII } from 'node:url'
import { ApiError } from '@roost/api'
import { Failure, usage } from '../failure/failure.ts'

/** As it is written in DNS, whatever letters it was typed in. Whether it can be served is the server's to say. */
export function typedHostname(text: string): string {
  if (/^[a-z]+:\/\//i.test(text))
    throw usage(`"${text}" is an address of a page, not a host name`, [
      `roost certs add ${text.replace(/^[a-z]+:\/\//i, '').replace(/[/:].*$/, '')}`,
    ])
  const [wildcard, rest] = text.startsWith('*.') ? ['*.', text.slice(2)] : ['', text]
  const ascii = domainToASCII(rest.replace(/\.$/, ''))
  if (ascii === '')
    throw usage(`"${text}" is no host name`, [
      'roost certs add www.example.com',
      "roost certs add '*.example.com'",
    ])
  return `${wildcard}${ascii}`
}

/** The same error, or one that says how a name that another app has becomes free. */
export function takenName(error: unknown, hostname: string): unknown {
  if (!(error instanceof ApiError) || error.code !== 'name_taken') return error
  // What belongs to it may be the wildcard that stands for the name.
  const [, taken = '', owner] = /(\S+) belongs to app ([a-z0-9-]+)$/.exec(error.message) ?? []
  const name = taken.startsWith('*.') ? `'${taken}'` : taken
  return new Failure(`${hostname} leads to another app`, {
    why: error.message,
    fix:
      owner === undefined
        ? 'ask who keeps that app to take it away'
        : [`roost certs remove ${name} -a ${owner}`, `roost certs show ${name} -a ${owner}`],
    code: error.code,
    cause: error,
  })
}
