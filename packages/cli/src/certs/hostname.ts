import { domainToASCII } from 'node:url'
import { usage } from '../failure/failure.ts'

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
